"""VGG networks against counts done by hand."""

import itertools

import keras
import numpy as np
import pytest

from ptkeras import models

# The channels of each convolution, as table 1 of the paper lists them.
_CHANNELS = {
    "vgg8": [64, 128, 256, 512, 512],
    "vgg11": [64, 128, 256, 256, 512, 512, 512, 512],
    "vgg13": [64, 64, 128, 128, 256, 256, 512, 512, 512, 512],
    "vgg16": [64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512],
    "vgg19": [64, 64, 128, 128, *[256] * 4, *[512] * 8],
}


def _features(name: str, inputs: int) -> int:
    """Trainable parameters of the convolutions and their norms."""
    channels = _CHANNELS[name]
    kernels = sum(9 * a * b for a, b in itertools.pairwise([inputs, *channels]))
    return kernels + 2 * sum(channels)


def _trainable(model: keras.Model) -> int:
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)


@pytest.mark.parametrize("name", _CHANNELS)
def test_parameters_on_cifar(name):
    model = models.build(name, (32, 32, 3), 10)
    assert _trainable(model) == _features(name, 3) + 512 * 10 + 10
    assert model.output.shape == (None, 10)


def test_large_images_get_the_papers_head():
    model = models.build("vgg11", (64, 64, 3), 7)
    head = (2 * 2 * 512 * 4096 + 4096) + (4096 * 4096 + 4096) + (4096 * 7 + 7)
    assert _trainable(model) == _features("vgg11", 3) + head
    assert model.get_layer("head_dropout2").rate == 0.5


@pytest.mark.parametrize("side", [1, 8, 28])
def test_pooling_stops_at_one_pixel(side):
    model = models.build("vgg8", (side, side, 1), 10)
    assert model.get_layer("flatten").output.shape == (None, 512)
    pools = [layer for layer in model.layers if isinstance(layer, keras.layers.MaxPooling2D)]
    assert len(pools) == {1: 0, 8: 3, 28: 4}[side]
