"""What numbers of channels suit a machine, and PruneTrain with it."""

import math

import keras
import pytest
from keras import layers

import ptkeras
from ptkeras import cost
from ptkeras.latency import multiple as module
from ptkeras.latency import preferred_multiple
from ptkeras.methods.settings import parse
from ptkeras.utils.flagging import SettingsError
from tests.helpers.digits_network import compiled, digits


@pytest.fixture
def computes(monkeypatch):
    """Has a machine take time for whole batches of so many channels."""

    def at_a_time(count):
        def seconds(inputs, kernel):
            return (math.ceil(kernel.shape[-1] / count) * count) ** 2

        monkeypatch.setattr(module, "_seconds", seconds)
        preferred_multiple.cache_clear()

    yield at_a_time
    preferred_multiple.cache_clear()


@pytest.mark.parametrize("count", [1, 2, 4, 8, 16])
def test_what_a_machine_computes_at_a_time_is_found(computes, count):
    computes(count)
    assert preferred_multiple() == count


def test_this_machine_likes_some_multiple():
    preferred_multiple.cache_clear()
    assert preferred_multiple() in (1, 2, 4, 8, 16)


def network(width):
    inputs = x = keras.Input((8, 8, 1))
    for _ in range(3):
        x = layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
    return keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))


@pytest.mark.compiles_much
def test_widths_stay_multiples_of_it(computes):
    computes(8)
    x, y = digits(64)
    model = compiled(network(32))
    dense = cost.inference_flops(model)
    pruning = ptkeras.PruneTrain(target=0.5, channel_multiple="auto", verbose=0)
    model.fit(x, y, 32, epochs=4, verbose=0, callbacks=[pruning])
    assert all(layer.filters % 8 == 0 for layer in model.layers if hasattr(layer, "filters"))
    assert cost.inference_flops(model) <= 0.5 * dense * 1.001
    assert pruning.get_settings()["channel_multiple"] == "auto"


@pytest.mark.compiles_much
def test_a_multiple_gives_way_to_a_target(computes):
    computes(16)
    x, y = digits(64)
    model = compiled(network(16))  # nothing can go by sixteens
    dense = cost.inference_flops(model)
    with pytest.raises(ValueError, match="loosen"):
        callback = ptkeras.PruneTrain(target=0.5, channel_multiple=16, verbose=0)
        model.fit(x, y, 32, epochs=4, verbose=0, callbacks=[callback])
    callback = ptkeras.PruneTrain(target=0.5, channel_multiple="auto", verbose=0)
    model.fit(x, y, 32, epochs=4, verbose=0, callbacks=[callback])
    assert all(layer.filters % 8 == 0 for layer in model.layers if hasattr(layer, "filters"))
    assert cost.inference_flops(model) <= 0.5 * dense * 1.001


@pytest.mark.parametrize("multiple", ["machine", 0, 2.5])
def test_other_multiples_are_refused(multiple):
    with pytest.raises(ValueError, match='a whole number from 1, or "auto"; received'):
        ptkeras.PruneTrain(channel_multiple=multiple)
    with pytest.raises(SettingsError, match=r"--channel_multiple=.*or auto"):
        parse([f"--channel_multiple={multiple}"])
