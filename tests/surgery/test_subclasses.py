"""Models with a class of their own, built functionally or in a row."""

import keras
import numpy as np
import pytest
from keras import layers

from ptkeras import reconfigure
from ptkeras.channels import trace
from tests.exactness import assert_exact, assert_same, inputs_for, outputs_of, random_keep


def graph(width=8):
    inputs = keras.Input((6, 6, 2))
    x = layers.Conv2D(width, 3, activation="relu", name="conv")(inputs)
    x = layers.Conv2D(6, 3, name="last")(x)
    return inputs, layers.Dense(3, name="head")(layers.GlobalAveragePooling2D()(x))


def row(width=8):
    return [keras.Input((6, 6, 2)), layers.Conv2D(width, 3), layers.Flatten(), layers.Dense(3)]


class Counted:
    """A train step of its own."""

    steps = 0

    def train_step(self, *args):
        self.steps += 1
        return super().train_step(*args)


class Plain(Counted, keras.Model):
    """Keras's constructor, and more state: a metric, and a layer that is not in the graph."""

    def __init__(self, *args, note="", **kwargs):
        super().__init__(*args, **kwargs)
        self.note = note
        self.tracker = keras.metrics.Mean(name="own")
        self.extra = layers.Dense(2)
        self.extra.build((None, 3))
        self.seen = {"notes": [1, 2]}


class Sized(Counted, keras.Model):
    """Its config says the dense network, and how to build that."""

    def __init__(self, width=8, **kwargs):
        super().__init__(*graph(width), **kwargs)
        self.width = width

    def get_config(self):
        return {"width": self.width, "name": self.name}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls(**config)


class Extended(Counted, keras.Model):
    """Keras's config and one argument more."""

    def __init__(self, inputs=None, outputs=None, note="", **kwargs):
        super().__init__(inputs=inputs, outputs=outputs, **kwargs)
        self.note = note

    def get_config(self):
        return super().get_config() | {"note": self.note}


class Row(Counted, keras.Sequential):
    """Layers in a row, and no more."""


class SizedRow(Counted, keras.Sequential):
    """Its config says the dense network."""

    def __init__(self, width=8):
        super().__init__(row(width))
        self.width = width

    def get_config(self):
        return {"width": self.width}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls(config["width"])


MODELS = {
    "plain": lambda: Plain(*graph(), note="mine"),
    "sized": Sized,
    "extended": lambda: Extended(*graph(), note="mine"),
    "row": lambda: Row(row()),
    "sized row": SizedRow,
}
CLASSES = {cls.__name__: cls for cls in (Plain, Sized, Extended, Row, SizedRow)}


@pytest.mark.parametrize(
    ("name", "first_loaded"),
    # "extended" is not in the second list: Keras cannot load such a model at all.
    [*((n, False) for n in MODELS), *((n, True) for n in MODELS if n != "extended")],
)
def test_saves_loads_clones_and_trains_as_what_it_is(name, first_loaded, tmp_path):
    path = tmp_path / "model.keras"
    model = MODELS[name]()
    cls = type(model)
    if first_loaded:
        model.save(path)
        model = keras.models.load_model(path, custom_objects=CLASSES)
    before, after = assert_exact(model, seed=2)
    assert after < before and isinstance(model, cls)
    model.compile("sgd", "mse", run_eagerly=True)
    inputs = inputs_for(model)
    model.fit(inputs, np.zeros((3, 3)), verbose=0)
    assert model.steps > 0
    outputs = outputs_of(model, inputs)
    # Its own layers are in the count of a model that has some beside the graph.
    in_graph = sum(int(np.prod(w.shape)) for layer in model.layers for w in layer.weights)
    clone = keras.models.clone_model(model)
    assert sum(int(np.prod(w.shape)) for layer in clone.layers for w in layer.weights) == in_graph
    model.save(path)
    loaded = keras.models.load_model(path, custom_objects=CLASSES)
    assert_same(outputs, outputs_of(loaded, inputs), 1e-6)
    assert_exact(loaded, seed=3)  # and can be pruned on


def test_what_is_not_in_the_graph_stays():
    model = Plain(*graph(), note="mine")
    extra, tracker = model.extra, model.tracker
    reconfigure(model, random_keep(trace(model)))
    assert model.extra is extra and model.tracker is tracker and model.note == "mine"
    assert model.seen == {"notes": [1, 2]}
    assert any(v is extra.kernel for v in model.trainable_variables)


class Held(keras.Model):
    """Holds layers of its graph, for a train step that uses them by themselves."""

    def __init__(self):
        frame = keras.Input((6, 6, 2))
        self_encoder = keras.Model(frame, layers.Conv2D(8, 3, name="conv")(frame), name="encoder")
        head = layers.Dense(3, name="head")
        inputs = keras.Input((6, 6, 2))
        super().__init__(inputs, head(layers.Flatten()(self_encoder(inputs))))
        self.encoder = self_encoder
        self.first = self_encoder.get_layer("conv")
        self.heads = [head]
        self.by_name = {"head": head, "none": None}
        self.pair = (head, 3)


def test_attributes_that_hold_layers_hold_the_new_ones():
    model = Held()
    reconfigure(model, random_keep(trace(model), seed=1))
    assert model.encoder is model.get_layer("encoder")
    assert model.first is model.encoder.get_layer("conv") and model.first.filters < 8
    head = model.get_layer("head")
    assert model.heads[0] is head and model.by_name["head"] is head and model.pair == (head, 3)


class Branched(keras.Model):
    """Holds the layers of a branch that may leave the graph."""

    def __init__(self):
        inputs = keras.Input((6, 6, 4))
        self_branch = [layers.Conv2D(4, 3, padding="same", use_bias=False) for _ in range(2)]
        x = layers.Add()([inputs, self_branch[1](self_branch[0](inputs))])
        x = layers.Conv2D(8, 3, name="last")(x)
        super().__init__(inputs, layers.Dense(3)(layers.Flatten()(x)))
        self.branch = [*self_branch, self.get_layer("last")]


@pytest.mark.parametrize("held", [True, False])
def test_layers_of_a_branch_that_has_gone_are_not_the_models(held):
    model = Branched() if held else keras.Model(*(lambda m: (m.inputs, m.outputs))(Branched()))
    model.compile("adam", "mse")
    model.train_on_batch(np.ones((2, 6, 6, 4)), np.ones((2, 3)))
    channel_map = trace(model)
    keep = np.ones(len(channel_map), bool)
    keep[next(row.channels for row in channel_map.slices if row.role == "output")] = False
    reconfigure(model, keep)
    assert [v.path.rsplit("/", 2)[-2] for v in model.weights] == ["last"] * 2 + ["dense"] * 2
    assert {id(v) for v in model.optimizer._trainable_variables} == {id(v) for v in model.weights}
    model.train_on_batch(np.ones((2, 6, 6, 4)), np.ones((2, 3)))
    if held:
        assert model.branch[2] is model.get_layer("last")


def test_a_sequential_model_from_a_file(tmp_path):
    keras.Sequential(row()).save(tmp_path / "model.keras")
    before, after = assert_exact(keras.models.load_model(tmp_path / "model.keras"))
    assert after < before
