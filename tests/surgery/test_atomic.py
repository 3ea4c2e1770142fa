"""Whatever is raised in the middle of a reconfiguration, the model is what it was."""

import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers, ops

import ptkeras
from ptkeras.channels import trace
from tests.exactness import random_keep

pytestmark = pytest.mark.thorough

SURGERY = str(Path(ptkeras.__file__).parent / "surgery")
X = np.random.default_rng(0).normal(size=(8, 6, 6, 3)).astype("float32")
Y = np.random.default_rng(1).normal(size=(8, 2)).astype("float32")


class Block(layers.Layer):
    def __init__(self, width):
        super().__init__()
        self.width = width
        self.steps = [layers.Conv2D(width, 1, activation="relu"), layers.BatchNormalization()]
        self.last = layers.Conv2D(6, 1)

    def call(self, x):
        h = x
        for step in self.steps:
            h = step(h)
        height, width = h.shape[1:3]
        h = ops.reshape(h, (-1, height * width, self.width))
        return x + self.last(ops.reshape(h, (-1, height, width, self.width)))


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.first, self.block = layers.Conv2D(6, 3, activation="relu"), Block(5)
        self.pool, self.head = layers.GlobalAveragePooling2D(), layers.Dense(2)

    def call(self, x):
        return self.head(self.pool(self.block(self.first(x))))


def functional():
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(6, 3, activation="relu", name="first")(inputs)
    branch = layers.Conv2D(4, 1, name="narrow")(x)
    branch = layers.BatchNormalization()(layers.Conv2D(6, 1, name="wide")(branch))
    x = layers.Add()([x, branch])
    x = layers.Concatenate()([x[..., 1:4], x])
    return keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))


def in_a_row():
    steps = [layers.Conv2D(5, 3, activation="relu"), layers.Reshape((16, 5)), layers.Flatten()]
    return keras.Sequential([keras.Input((6, 6, 3)), *steps, layers.Dense(2)])


MODELS = {"functional": functional, "sequential": in_a_row, "subclassed": Subclassed}


class Stop(BaseException):
    """Like Ctrl-C, no Exception."""


class Raiser:
    """Raises at the line of the surgery that is reached as the `number`th of those not seen yet."""

    def __init__(self, number):
        self.number, self.seen = number, set()

    def __call__(self, frame, event, _):
        return self.line if frame.f_code.co_filename.startswith(SURGERY) else None

    def line(self, frame, event, _):
        place = (frame.f_code.co_filename, frame.f_lineno)
        if event == "line" and place not in self.seen:
            self.seen.add(place)
            if len(self.seen) == self.number:
                sys.settrace(None)
                raise Stop
        return self.line


def trained(name):
    keras.utils.set_random_seed(0)
    model = MODELS[name]()
    model.compile(keras.optimizers.Adam(0.01), "mse")
    model.fit(X, Y, verbose=0)
    return model


def state(model):
    """All that a reconfiguration changes: numbers, the objects that hold them, and sizes."""
    variables = [*model.variables, *model.optimizer.variables]
    own = [model, *model._flatten_layers(include_self=False), model.optimizer]
    plain = [
        {
            k: v
            for k, v in vars(x).items()
            if isinstance(v, (int, float, str, tuple, type(None))) and k != "_called"
        }
        for x in own
    ]
    functions = [getattr(model, f"{kind}_function") for kind in ("train", "test", "predict")]
    native = [id(v._value) for v in variables]
    values = [np.array(keras.ops.convert_to_numpy(v.value)) for v in variables]
    return [id(v) for v in variables], native, values, repr(plain), list(map(id, functions))


def same(a, b):
    same_values = all(np.array_equal(x, y) for x, y in zip(a[2], b[2], strict=True))
    return same_values and (a[0], a[1], a[3], a[4]) == (b[0], b[1], b[3], b[4])


def mask(model, name):
    channel_map = trace(model)
    keep = random_keep(channel_map, seed=1)
    for channels in channel_map.tensors.values():
        channels = channels[channels >= 0]
        if channels.size and not keep[channels].any():
            keep[channels.flat[0]] = True
    if name == "functional":
        keep[channel_map.produced()["narrow"]] = False  # a branch that leaves the graph
    return channel_map, keep


@pytest.mark.parametrize(
    ("name", "step"),
    [*((n, 23) for n in MODELS), *(pytest.param(n, 1, marks=pytest.mark.slow) for n in MODELS)],
)
def test_an_exception_at_any_line_changes_nothing(name, step):
    model = trained(name)
    channel_map, keep = mask(model, name)
    before, number, lines = state(model), 0, []
    while True:
        number += step
        raiser = Raiser(number)
        sys.settrace(raiser)
        try:
            ptkeras.reconfigure(model, keep, channel_map=channel_map)
            break
        except Stop:
            lines.append(raiser)
        finally:
            sys.settrace(None)
        assert same(before, state(model)), f"not what it was after line {number}"
    assert len(lines) * step > 300
    assert model.count_params() < sum(v.size for v in before[2])
    model.fit(X, Y, verbose=0)


@pytest.mark.parametrize("name", MODELS)
def test_training_goes_on_bit_for_bit(name):
    model, other = trained(name), trained(name)
    channel_map, keep = mask(model, name)
    raiser = Raiser(230)
    sys.settrace(raiser)
    try:
        with pytest.raises(Stop):
            ptkeras.reconfigure(model, keep, channel_map=channel_map)
    finally:
        sys.settrace(None)
    for one in (model, other):
        one.fit(X, Y, epochs=2, shuffle=False, verbose=0)
    for a, b in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
