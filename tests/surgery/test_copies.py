"""`copy=True`: the model stays what it is, and a smaller one comes back that trains on."""

import functools
from collections import namedtuple

import keras
import numpy as np
import pytest
from keras import layers

import ptkeras
from ptkeras.channels import trace
from ptkeras.surgery.clone import clone
from ptkeras.surgery.reconfigure import Gate, copy_of
from ptkeras.utils.arrays import numbers
from tests.exactness import random_keep, sparing_keep
from tests.helpers.composites import NETS, Block, data, flat
from tests.helpers.two_devices import mirrored_strategy

pytestmark = pytest.mark.thorough


def numbers_of(model):
    variables = [*model.variables, *model.optimizer.variables, *model.metrics_variables]
    return [np.array(numbers(v)) for v in variables]


def assert_equal(before, after):
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)


def step(model):
    x, y = data()
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0)


def trained(make):
    keras.utils.set_random_seed(0)
    model = make()
    model.compile(
        keras.optimizers.Adam(0.01),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=False,
    )
    step(model)
    return model


@pytest.mark.compiles_much
@pytest.mark.parametrize("name", NETS)
def test_the_copy_trains_on_as_the_model_pruned_in_place_would(name):
    model = trained(NETS[name])
    keep = sparing_keep(trace(model), seed=1)
    before = numbers_of(model)
    small = ptkeras.reconfigure(model, keep, copy=True)
    assert type(small) is type(model) and small.count_params() < model.count_params()
    step(small)
    assert_equal(before, numbers_of(model))
    ptkeras.reconfigure(model, keep)
    step(model)
    assert_equal(numbers_of(model), numbers_of(small))
    assert len(small.optimizer.variables) == len(model.optimizer.variables)


@pytest.mark.parametrize("name", NETS)
def test_nothing_that_a_training_changes_is_shared(name):
    model = trained(NETS[name])
    small = ptkeras.remove_channels(model, {"stem": [0, 3]}, copy=True)

    def own(one):
        found = [*one.variables, *one.optimizer.variables, *one.metrics_variables]
        return {id(x) for x in [*found, *one._flatten_layers(), one.optimizer, *one.metrics]}

    assert own(model).isdisjoint(own(small))
    assert [v.path for v in small.variables] == [v.path for v in model.variables]
    assert small.layers[-1].name == model.layers[-1].name


def test_prune_reports_the_copy():
    model = trained(flat)
    before = numbers_of(model)
    report = ptkeras.prune(model, 0.5, of="params", copy=True)
    assert report.params == (model.count_params(), report.model.count_params())
    assert report.params[1] <= report.params[0] / 2
    assert_equal(before, numbers_of(model))
    assert ptkeras.prune(model, 0.5, dry_run=True, copy=True).model is None
    assert ptkeras.prune(model, 0.1).model is model


@pytest.mark.compiles_much
def test_prune_in_steps_fine_tunes_the_copy():
    model = trained(NETS["subclassed"])
    before = numbers_of(model)
    seen = []
    report = ptkeras.prune(
        model, 0.4, steps=2, copy=True, finetune=lambda m, n: (seen.append(m), step(m))
    )
    assert seen == [report.model] * 2
    assert_equal(before, numbers_of(model))


def test_the_map_and_the_gates_of_the_model_hold_for_the_copy():
    model = trained(flat)
    channel_map = trace(model, exact=False)
    layer = model.get_layer("one_first")
    shown = np.array([True] * 6 + [False] * 2)
    gates = {id(layer): Gate(shown, np.ones(12, bool))}
    everything = np.ones(len(channel_map), bool)
    small = ptkeras.reconfigure(model, everything, channel_map=channel_map, gates=gates, copy=True)
    assert layer.kernel.shape == (3, 3, 8, 12)
    assert small.get_layer("one_first").kernel.shape == (3, 3, 6, 12)


def test_a_mask_that_keeps_everything_makes_a_copy_all_the_same():
    model = trained(flat)
    same = ptkeras.reconfigure(model, np.ones(len(trace(model)), bool), copy=True)
    assert same is not model
    assert_equal(numbers_of(model), numbers_of(same))


@pytest.mark.parametrize("name", ["flat", "composite", "in a row"])
def test_the_copy_saves_and_loads(name, tmp_path):
    model = trained(NETS[name])
    small = ptkeras.reconfigure(model, random_keep(trace(model), seed=2), copy=True)
    x, _ = data()
    whole = small
    if name != "flat":
        with pytest.raises(ValueError, match=r"save ptkeras\.as_functional"):
            small.save(tmp_path / "small.keras")
        whole = ptkeras.as_functional(small)
    whole.save(tmp_path / "small.keras")
    loaded = keras.models.load_model(tmp_path / "small.keras")
    np.testing.assert_allclose(small.predict(x, verbose=0), loaded.predict(x, verbose=0), 1e-5)
    np.testing.assert_array_equal(small.predict(x, verbose=0), clone(small).predict(x, verbose=0))


class Helper:
    """A user's own object."""

    def __init__(self, layer):
        self.layer = layer
        self.notes = ["mine"]


Ends = namedtuple("Ends", "first last")


class Attributes(keras.Model):
    """Holds its layers in whatever Python has."""

    def __init__(self):
        super().__init__(name="attributes")
        self.rows = [layers.Dense(4, name="a"), [layers.Dense(4, name="b")]]
        self.by_name = {"c": layers.Dense(4, name="c")}
        self.ends = Ends(self.rows[0], self.by_name["c"])
        self.helper = Helper(self.by_name["c"])
        self.function = self.rows[0].__call__
        self.partial = functools.partial(self.by_name["c"].__call__)
        self.draws = keras.random.SeedGenerator(3)
        self.loss_seen = keras.metrics.Mean(name="seen")
        self.scale = self.add_weight(shape=(), initializer="ones", name="scale")
        self.other = {"seen": [1, 2]}

    def call(self, x):
        x = self.rows[1][0](self.function(x))
        self.loss_seen.update_state(1.0)
        return self.scale * self.partial(x)


def test_what_leads_to_a_layer_leads_to_that_of_the_copy():
    model = Attributes()
    model(np.ones((2, 4), "float32"))
    copy = clone(model)
    own = {id(x) for x in copy._flatten_layers()}
    held = [copy.rows[0], copy.rows[1][0], copy.by_name["c"], copy.ends.first, copy.ends.last]
    held += [copy.helper.layer, copy.function.__self__, copy.partial.func.__self__]
    assert all(id(x) in own for x in held)
    assert copy.ends.first is copy.rows[0] and copy.helper.layer is copy.by_name["c"]
    assert copy.helper is not model.helper and copy.helper.notes == ["mine"]
    assert copy.draws is not model.draws and copy.loss_seen is not model.loss_seen
    assert copy.other == {"seen": [1, 2]} and copy.other is not model.other
    for layer in model._flatten_layers():
        for weight in layer.weights:
            weight.assign(keras.ops.zeros(weight.shape))
    assert np.abs(copy(np.ones((2, 4), "float32"))).max() > 0
    copy._tracker.unlock()
    copy.rows.append(layers.Dense(2, name="late"))  # the lists of the copy track for the copy
    assert "late" in [x.name for x in copy._flatten_layers()]
    assert "late" not in [x.name for x in model._flatten_layers()]


def test_shared_layers_and_tied_variables_stay_shared_and_tied():
    inputs = keras.Input((6,))
    shared = layers.Dense(6, name="shared")
    inner = keras.Input((6,))
    nested = keras.Model(inner, shared(layers.ReLU()(inner)), name="nested")
    model = keras.Model(inputs, layers.Add()([nested(shared(inputs)), nested(inputs)]))
    second = layers.Dense(6, name="second")
    model = keras.Model(inputs, second(model.output))
    second._tracker.unlock()
    second._kernel = shared._kernel
    second._tracker.lock()
    copy = clone(model)
    again = copy.get_layer("nested").get_layer("shared")
    assert copy.get_layer("shared") is again
    assert copy.get_layer("second")._kernel is again._kernel is not shared._kernel
    assert len({id(v) for v in copy.variables}) == len({id(v) for v in model.variables})
    x = np.ones((2, 6), "float32")
    np.testing.assert_array_equal(model.predict(x, verbose=0), copy.predict(x, verbose=0))
    rebuilt, other = keras.models.clone_model(copy), keras.models.clone_model(model)
    assert [x.name for x in rebuilt.layers] == [x.name for x in other.layers]


def test_the_copy_of_a_part_leaves_the_rest():
    part = flat()
    outer = keras.Model(part.inputs, layers.Dense(64, name="wide")(part.layers[-2].output))
    assert clone(part).count_params() == part.count_params()
    assert outer.get_layer("wide").kernel.shape == (8, 64)


def test_depth_does_not_matter():
    x = inputs = keras.Input((4,))
    for _ in range(400):
        x = layers.Activation("relu")(x)
    copy = clone(keras.Model(inputs, layers.Dense(2)(x)))
    assert len(copy.layers) == 402


def test_the_copy_builds_its_own_layers():
    block = Block(name="block")
    model = keras.Sequential([keras.Input((8, 8, 3)), block])
    copy = clone(model).layers[0]
    copy.built = False
    for layer in copy._flatten_layers():
        layer._tracker.unlock()
    copy.build((None, 8, 8, 3))
    assert copy.second is not block.second and len(block.weights) == 7


def test_masks_are_refused_before_a_copy_is_made():
    model = trained(flat)
    ptkeras.magnitude.prune(model, 0.5)
    with pytest.raises(ValueError, match="MagnitudePruning"):
        ptkeras.reconfigure(model, random_keep(trace(model)), copy=True)


@pytest.mark.tensorflow
def test_under_a_mirrored_strategy():
    with mirrored_strategy().scope():
        model = trained(NETS["subclassed"])
    keep = sparing_keep(trace(model), seed=1)
    before = numbers_of(model)
    small = ptkeras.reconfigure(model, keep, copy=True)
    assert all(len(v.value.values) == 2 for v in small.trainable_variables)
    step(small)
    assert_equal(before, numbers_of(model))
    ptkeras.reconfigure(model, keep)
    step(model)
    assert_equal(numbers_of(model), numbers_of(small))


class Copying(keras.callbacks.Callback):
    """Copies the model in the middle of `fit`."""

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 0:
            self.copy = copy_of(self.model)


def test_in_the_middle_of_fit():
    keras.utils.set_random_seed(0)
    model = NETS["subclassed"]()
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", jit_compile=False)
    x, y = data()
    callback = Copying()
    options = {"batch_size": 8, "shuffle": False, "verbose": 0, "validation_data": (x, y)}
    model.fit(x, y, epochs=2, callbacks=[callback], **options)
    callback.copy.fit(x, y, epochs=2, initial_epoch=1, **options)
    weights = model.get_weights()
    assert_equal(weights, callback.copy.get_weights())
