"""The networks of keras.applications."""

import keras
import pytest

from ptkeras import models


def test_mobilenet_v2_has_logits_and_no_trained_weights():
    model = models.build("MobileNetV2", (32, 32, 3), 7)
    assert model.output.shape == (None, 7)
    assert model.layers[-1].activation is keras.activations.linear


def test_preprocessing_is_left_to_the_input_pipeline():
    model = models.build("MobileNetV3Small", (32, 32, 3), 10)
    assert not any(isinstance(layer, keras.layers.Rescaling) for layer in model.layers)


def test_an_image_that_is_too_small_names_the_network_and_the_shape():
    with pytest.raises(ValueError, match=r"Xception does not take images of shape \(8, 8, 1\)"):
        models.build("Xception", (8, 8, 1), 10)


def test_logits_are_float32_under_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = models.build("MobileNetV2", (32, 32, 3), 10)
        assert model.output.dtype == "float32"
        assert model.get_layer("Conv1").compute_dtype == "float16"
    finally:
        keras.config.set_dtype_policy("float32")
