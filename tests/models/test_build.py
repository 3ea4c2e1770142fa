"""ptkeras.models.build: names, errors, and every family on real digits."""

import keras
import numpy as np
import pytest

from ptkeras import models
from ptkeras.data import digits


@pytest.mark.parametrize("name", ["resnet20", "resnet50", "vgg8", "mobilenet"])
def test_real_digits_go_through(name):
    keras.utils.set_random_seed(0)
    model = models.build(name, (8, 8, 1), 10)
    images = digits.load().train_images[:16].astype("float32") / 16
    scores = keras.ops.convert_to_numpy(model(images))
    assert scores.shape == (16, 10)
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()
    # Logits, and not probabilities: some are negative.
    assert scores.min() < 0
    assert scores.std(axis=0).min() > 0


def test_layers_are_plain_keras_in_a_functional_model():
    for name in ["resnet20", "vgg8", "mobilenet"]:
        model = models.build(name, (8, 8, 1), 10)
        assert type(model).__name__ == "Functional"
        assert all(type(layer).__module__.startswith("keras.") for layer in model.layers)
        assert model.name == name


def test_batch_norm_is_pytorchs():
    layer = models.build("resnet20", (8, 8, 1), 10).get_layer("stem_bn")
    assert (layer.momentum, layer.epsilon) == (0.9, 1e-5)


def test_logits_are_float32_under_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = models.build("resnet20", (8, 8, 1), 10)
        assert model.output.dtype == "float32"
        assert model.get_layer("stem_conv").compute_dtype == "bfloat16"
    finally:
        keras.config.set_dtype_policy("float32")


def test_names_are_ours_then_keras_applications():
    names = models.names()
    assert names[:2] == ["resnet20", "resnet32"]
    assert {"vgg19", "mobilenet", "MobileNetV2", "EfficientNetB0", "ConvNeXtTiny"} <= set(names)
    assert len(names) == len(set(names))


def test_unknown_name_is_answered_with_close_ones():
    with pytest.raises(ValueError, match=r"Unknown network 'resnet23' \(did you mean resnet2?0?"):
        models.build("resnet23", (32, 32, 3), 10)
    with pytest.raises(ValueError, match="the networks are resnet20, resnet32"):
        models.build("zzz", (32, 32, 3), 10)


@pytest.mark.parametrize("shape", [(32, 32), (0, 32, 3), (None, None, 3)])
def test_bad_shape(shape):
    with pytest.raises(ValueError, match="three positive integers"):
        models.build("resnet20", shape, 10)


def test_no_classes():
    with pytest.raises(ValueError, match="num_classes must be at least 1; got 0"):
        models.build("resnet20", (8, 8, 1), 0)
