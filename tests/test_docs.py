"""The code of the documentation runs, and does what the text says."""

import re
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

import ptkeras
from ptkeras.channels import registry, trace
from ptkeras.surgery import sizes
from tests.exactness import assert_exact

PAGE = Path(__file__).resolve().parent.parent / "docs" / "extending.md"
pytestmark = pytest.mark.tensorflow


@pytest.fixture
def names(monkeypatch):
    """What the code on the page defines."""
    monkeypatch.setattr(registry, "_RULES", dict(registry._RULES))
    monkeypatch.setattr(sizes, "_RESIZERS", dict(sizes._RESIZERS))
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 5
    found = {"__name__": "extending"}
    exec("\n".join(blocks), found)
    return found


def test_the_rule_and_the_size_of_a_layer(names):
    inputs = keras.Input((6, 6, 3))
    x = names["Shift"]()(layers.Conv2D(8, 3, name="before")(inputs))
    x = names["Units"](6, name="units")(layers.Flatten()(layers.Conv2D(5, 3)(x)))
    model = keras.Model(inputs, layers.Dense(2)(x))
    channel_map = trace(model)
    made = channel_map.produced()
    assert not channel_map.frozen[made["before"]].any()
    before, after = assert_exact(model)
    assert after < before
    layer = model.get_layer("units")
    assert layer.width == layer.units == layer.kernel.shape[-1]


def test_the_criterion(names):
    model = names["build"]((8, 8, 3), 2)
    kernel = model.layers[1].kernel
    values = np.full(kernel.shape, 0.01, "float32")
    values[..., 3:] = 1.0
    kernel.assign(values)
    model.layers[-1].kernel.assign(np.full((8, 2), 0.001))
    ptkeras.prune(model, 3 / 8, criterion=names["largest_weight"])
    assert (keras.ops.convert_to_numpy(model.layers[1].kernel) == 1.0).all()


def test_the_data_and_the_network(names, monkeypatch):
    import sys
    import types

    monkeypatch.setitem(sys.modules, "extending", types.SimpleNamespace(**names))
    dataset = ptkeras.data.load("extending:load_data", batch_size=8)
    assert dataset.labels == ("even", "odd")
    model = ptkeras.models.build("extending:build", dataset.input_shape, dataset.num_classes)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(dataset.train, shuffle=False, verbose=0)
