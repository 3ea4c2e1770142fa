"""What PruneTrain says when nothing goes, and when nothing will."""

import warnings

import keras
import numpy as np
import pytest

import ptkeras
from tests.helpers.digits_network import compiled, digits


def fit(callback, epochs=2, model=None):
    x, y = digits(128)
    model = model or compiled()
    model.fit(x, y, 64, epochs=epochs, verbose=0, callbacks=[callback])
    return model


@pytest.mark.filterwarnings("ignore:The group lasso of PruneTrain will hardly")
def test_each_interval_has_a_line_and_the_end_a_remedy(capsys):
    fit(ptkeras.PruneTrain(ratio=0.2, interval=1), epochs=3)
    said = capsys.readouterr().out
    for epoch in (1, 2, 3):
        assert f"PruneTrain, epoch {epoch}: nothing removed: the smallest channel is at 0." in said
    assert "the threshold is 0.0001" in said
    assert said.count("PruneTrain has removed nothing") == 1 and "target=0.5" in said


def test_little_is_left_for_later_and_that_is_said(capsys, monkeypatch):
    monkeypatch.setattr("ptkeras.prunetrain.channels.LEAST_GAIN", 0.99)
    fit(ptkeras.PruneTrain(ratio=0.5, interval=1, threshold=0.35), epochs=3)
    assert "and are left for later until they are 99%" in capsys.readouterr().out


@pytest.mark.parametrize(
    "optimizer",
    [lambda: keras.optimizers.SGD(1e-4, momentum=0.9), lambda: keras.optimizers.Adam(1e-6)],
)
def test_a_lasso_that_cannot_arrive_is_named_after_an_epoch(optimizer):
    callback = ptkeras.PruneTrain(ratio=0.2, interval=5, verbose=0)
    with pytest.warns(UserWarning, match=r"hardly remove a channel: λ is .* in 20 steps at a"):
        fit(callback, epochs=10, model=compiled(optimizer=optimizer()))


def test_a_lasso_that_can_is_not():
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="The group lasso")
        fit(ptkeras.PruneTrain(ratio=0.95, interval=500, verbose=0), epochs=1)


def test_a_network_that_has_been_trained_is_recognised():
    x, y = digits(128)
    inputs = keras.Input((8, 8, 1))
    hidden = keras.layers.Dense(32, "relu")(keras.layers.Flatten()(inputs))
    model = keras.Model(inputs, keras.layers.Dense(10)(hidden))
    model = compiled(model, keras.optimizers.Adam(0.01))
    model.fit(x, y, 16, epochs=15, verbose=0)
    assert model.evaluate(x, y, verbose=0)[0] < 0.5
    with pytest.warns(UserWarning, match=r"fresh network of 10 classes is about 2\.3: this one"):
        fit(ptkeras.PruneTrain(ratio=0.2, interval=1, verbose=0), model=model)
    callback = ptkeras.PruneTrain(strength=1e-3, interval=1, verbose=0)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="The first loss")
        fit(callback, model=model)
    assert callback.strength == 1e-3


class StopEarly(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = epoch == 1


def test_a_target_that_was_not_reached_is_named():
    x, y = digits(128)
    callbacks = [ptkeras.PruneTrain(target=0.5, interval=5, verbose=0), StopEarly()]
    with pytest.warns(UserWarning, match="has not met its target.*ended early"):
        compiled().fit(x, y, epochs=10, verbose=0, callbacks=callbacks)


def test_the_end_of_a_piece_is_no_end():
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="PruneTrain has not met")
        fit(ptkeras.PruneTrain(target=0.5, epochs=10, verbose=0), epochs=2)


def test_channels_that_cannot_be_brought_to_zero_are_counted():
    inputs = x = keras.Input((8, 8, 1))
    for width in (8, 8):
        x = keras.layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
        x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    model = keras.Model(inputs, keras.layers.Dense(10)(keras.layers.GlobalMaxPooling2D()(x)))
    model.layers[1].trainable = False
    with pytest.warns(UserWarning, match="acts on 8 of the 16 channels .* do not train"):
        fit(ptkeras.PruneTrain(target=0.7, verbose=0), epochs=3, model=compiled(model))
    assert np.shape(model.layers[1].kernel)[-1] == 8
