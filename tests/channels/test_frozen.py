"""Which operation froze a channel, and how many channels a layer makes."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import ptkeras
from ptkeras.channels import trace
from ptkeras.importance import round_up


class Unknown(layers.Layer):
    def call(self, x):
        if isinstance(x, keras.KerasTensor):
            raise TypeError("takes no symbolic tensors.")
        return ops.flip(x, -1)


def network():
    inputs = keras.Input((6, 6, 3), name="image")
    x = layers.Conv2D(8, 3, name="free")(inputs)
    x = layers.Conv2D(7, 1, name="soft")(x)
    x = layers.Conv2D(6, 1, name="unknown")(layers.Softmax(name="softmax")(x))
    x = layers.Conv2D(5, 1, name="both")(Unknown(name="mystery")(x))
    x = layers.LayerNormalization(name="normed")(x)
    return keras.Model(inputs, layers.Dense(4, name="logits")(layers.Flatten()(x)))


@pytest.mark.filterwarnings("ignore:No rule says")
def test_each_frozen_channel_names_what_froze_it():
    model = network()
    channel_map = trace(model)
    made = channel_map.produced()
    wanted = {
        "free": None,
        "soft": "needed by 'softmax' (a Softmax), which would make something else of the others",
        "unknown": "read or made by 'mystery' (a Unknown), which no rule is known for",
        "both": "needed by 'normed' (a LayerNormalization)",
        "logits": "part of an output of the model, that of 'logits'",
    }
    for layer, why in wanted.items():
        for channel in made[layer]:
            said = channel_map.why_frozen(channel)
            assert said is None if why is None else said.startswith(why)
    image = channel_map.channels_of(model.inputs[0]).reshape(-1)
    assert channel_map.why_frozen(image[0]) == "part of an input of the model, that of 'image'"
    assert [c is not None for c in channel_map.causes] == channel_map.frozen.tolist()


@pytest.mark.filterwarnings("ignore:No rule says")
def test_a_dry_run_says_what_may_not_go():
    report = ptkeras.prune(network(), 0.5, dry_run=True)
    frozen = {layer.name: layer.frozen for layer in report.layers}
    assert frozen["free"] == "" and frozen["soft"] == "7 by softmax"
    assert frozen["unknown"] == "6 by mystery" and frozen["logits"] == "4 by output"
    assert "7 by softmax" in str(report)


def test_a_mask_that_drops_a_frozen_channel_is_told_why_not():
    channel_map = trace(network_without_unknown())
    with pytest.raises(ValueError, match=r"first, channel 0, is part of an input .*'image'"):
        channel_map.check_keep(np.zeros(len(channel_map), bool))


def network_without_unknown():
    inputs = keras.Input((5, 4), name="image")
    x = layers.LSTM(6, name="lstm")(layers.Dense(3)(inputs))
    return keras.Model(inputs, layers.Dense(2)(layers.Dense(5)(x)))


def test_a_unit_of_a_recurrent_layer_counts_once():
    """Not as often as it has gates."""
    channel_map = trace(network_without_unknown())
    units = channel_map.produced()["lstm"]
    assert len(units) == len(set(units)) == 6
    keep = channel_map.frozen.copy()
    keep[units[:1]] = True
    scores = np.arange(len(channel_map), dtype=float)
    assert round_up(channel_map, keep, scores, multiple=3)[units].sum() == 3
    assert round_up(channel_map, keep, scores, least=2)[units].sum() == 2


def test_pruning_leaves_a_recurrent_layer_its_least_number_of_units():
    model = network_without_unknown()
    ptkeras.prune(model, 0.3, criterion="random", min_channels=3)
    assert model.get_layer("lstm").units >= 3


@pytest.mark.parametrize("labels", [np.arange(3), [np.zeros((1, 1, 1, 1), int)] * 2])
def test_a_rule_that_returns_labels_of_another_shape_is_told_so(labels, monkeypatch):
    from ptkeras.channels import registry

    monkeypatch.setattr(registry, "_RULES", dict(registry._RULES))
    ptkeras.channels.register(Unknown)(lambda call: labels)
    with pytest.raises(ValueError, match=r"'mystery' \(a Unknown\) must return a label array for"):
        trace(network())
