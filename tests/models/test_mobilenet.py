"""MobileNet against counts done by hand."""

import itertools

import numpy as np

from ptkeras import models

# Table 1 of the paper: the filters of the stem and of each pointwise convolution.
_FILTERS = [32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024]


def test_parameters_on_imagenet():
    model = models.build("mobilenet", (224, 224, 3), 1000)
    stem = 27 * 32 + 2 * 32
    blocks = sum(9 * a + 2 * a + a * b + 2 * b for a, b in itertools.pairwise(_FILTERS))
    trainable = sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
    assert trainable == stem + blocks + 1024 * 1000 + 1000 == 4_231_976
    assert model.get_layer("block12_pointwise_relu").output.shape == (None, 7, 7, 1024)


def test_small_images_keep_their_size_in_the_stem():
    model = models.build("mobilenet", (32, 32, 3), 10)
    assert model.get_layer("stem_relu").output.shape == (None, 32, 32, 32)
    assert model.get_layer("block12_pointwise_relu").output.shape == (None, 2, 2, 1024)
