"""Layers as a rotation in, a core and a rotation out: the same function, and trainable."""

import os

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from ptkeras import cost
from ptkeras.channels.graph import functional_of
from ptkeras.eigendamage.bottleneck import Form, cheapest, form_of, pruned, stages
from ptkeras.eigendamage.chains import chains
from ptkeras.surgery.replace import replace
from tests.exactness import TRIES_FEW, assert_same, inputs_for, outputs_of, randomise

LAYERS = {
    "dense": ((5,), layers.Dense, {"units": 4, "activation": "relu"}),
    "dense over time": ((3, 5), layers.Dense, {"units": 4, "use_bias": False}),
    "1d": ((9, 3), layers.Conv1D, {"filters": 4, "kernel_size": 3, "strides": 2}),
    "causal": (
        (9, 3),
        layers.Conv1D,
        {"filters": 4, "kernel_size": 3, "dilation_rate": 2, "padding": "causal"},
    ),
    "2d": ((7, 8, 3), layers.Conv2D, {"filters": 4, "kernel_size": 3, "activation": "tanh"}),
    "2d strides": (
        (7, 8, 3),
        layers.Conv2D,
        {"filters": 4, "kernel_size": (2, 3), "strides": 2, "padding": "same"},
    ),
    "2d dilation": (
        (9, 8, 3),
        layers.Conv2D,
        {"filters": 4, "kernel_size": 3, "dilation_rate": 2, "padding": "same"},
    ),
    "2d 1x1": ((7, 6, 3), layers.Conv2D, {"filters": 4, "kernel_size": 1, "strides": 2}),
    "3d": (
        (4, 5, 6, 2),
        layers.Conv3D,
        {"filters": 3, "kernel_size": 2, "strides": (1, 2, 1), "padding": "same"},
    ),
    "channels first": (
        (3, 7, 8),
        layers.Conv2D,
        {"filters": 4, "kernel_size": 3, "padding": "same", "data_format": "channels_first"},
    ),
}


def around(name):
    shape, kind, options = LAYERS[name]
    inputs = keras.Input(shape)
    model = keras.Model(inputs, kind(**options, name="layer")(inputs))
    randomise(model)
    return model


def can_run(name):
    return name != "channels first" or os.environ["KERAS_BACKEND"] != "tensorflow"


def orthonormal(size, count, seed=0):
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))
    return q[:, :count]


def turned(model, shares=(1.0, 1.0), ways=("prune", "prune"), seed=0):
    """Replaces every chain of a model by its form in a random basis."""
    changes, forms = {}, []
    taken = {layer.name for layer in model._flatten_layers()}
    for chain in chains(model):
        form = form_of(chain)
        sizes = form.core.shape[1:]
        counts = [max(1, round(n * share)) for n, share in zip(sizes, shares, strict=True)]
        sides = [orthonormal(*each, seed) for each in zip(sizes, counts, strict=True)]
        own = [
            "leave" if way == "merge" and rotation is None else way
            for way, rotation in zip(ways, (form.before, form.behind), strict=True)
        ]
        forms.append(pruned(form, *sides, *own))
        changes |= stages(chain, forms[-1], taken)
    replace(model, changes)
    return forms


def names_of(model):
    return [x.name for x in model.layers if not isinstance(x, layers.InputLayer)]


@pytest.mark.parametrize("name", LAYERS)
def test_three_layers_are_one_where_nothing_is_removed(name):
    model = around(name)
    x = inputs_for(model)
    before = outputs_of(model, x) if can_run(name) else None
    kind = type(model.get_layer("layer"))
    turned(model)
    assert names_of(model) == ["layer_rotation_in", "layer_core", "layer"]
    assert all(type(layer) is kind for layer in model.layers[1:])
    first, core, last = model.layers[1:]
    assert not first.use_bias and not core.use_bias
    assert last.use_bias == LAYERS[name][2].get("use_bias", True)
    if can_run(name):
        assert_same(before, outputs_of(model, x), 1e-5)


@pytest.mark.parametrize("name", LAYERS)
def test_the_next_pruning_merges_its_rotations_into_those_that_are_there(name):
    model = around(name)
    x = inputs_for(model)
    before = outputs_of(model, x) if can_run(name) else None
    # A core of one place is always merged with one of its sides.
    ways = ("prune", "prune")
    if len(form_of(chains(model)[0]).core) == 1:
        ways = ("leave", "prune")
    turned(model, ways=ways)
    names = names_of(model)
    assert names[-2:] == ["layer_core", "layer"]
    turned(model, ways=ways, seed=1)
    assert names_of(model) == names
    if can_run(name):
        assert_same(before, outputs_of(model, x), 1e-5)
    turned(model, (0.5, 0.5), ways, seed=2)
    assert names_of(model) == names
    assert all(type(layer).from_config(layer.get_config()) for layer in model.layers)


@settings(max_examples=6 if TRIES_FEW else 40)
@given(
    name=st.sampled_from([name for name in LAYERS if name != "channels first"]),
    first=st.tuples(*[st.sampled_from(["prune", "leave"])] * 2),
    then=st.tuples(*[st.sampled_from(["prune", "leave", "merge"])] * 2),
    seed=st.integers(0, 99),
)
def test_every_form_computes_the_same_and_costs_what_it_says(name, first, then, seed):
    model = around(name)
    x = inputs_for(model)
    before = outputs_of(model, x)
    for ways in (first, then):
        forms = turned(model, ways=ways, seed=seed)
        assert_same(before, outputs_of(model, x), 1e-5)
        sizes = [np.prod(model.input_shape[1:-1]), np.prod(model.output_shape[1:-1])]
        assert cost.macs(model) == pytest.approx(sum(form.macs(sizes) for form in forms))


@settings(max_examples=40)
@given(
    sizes=st.tuples(*[st.integers(1, 9)] * 4),
    kept=st.tuples(*[st.integers(1, 9)] * 2),
    sides=st.tuples(st.booleans(), st.booleans()),
    places=st.sampled_from([1, 9]),
    stride=st.sampled_from([1, 4]),
)
def test_the_cheapest_form_is_never_dearer_than_what_was_there(sizes, kept, sides, places, stride):
    rng = np.random.default_rng(0)
    outer, reads, makes, last = sizes
    form = Form(
        rng.normal(size=(outer, reads)) if sides[0] else None,
        rng.normal(size=(places, reads, makes)),
        rng.normal(size=(makes, last)) if sides[1] else None,
    )
    positions = (16.0 * stride, 16.0)
    p, r = orthonormal(reads, min(kept[0], reads)), orthonormal(makes, min(kept[1], makes))
    ways = cheapest(form, (p.shape[1], r.shape[1]), positions)
    best = form if ways is None else pruned(form, p, r, *ways)
    every = (
        pruned(form, p, r, left, right)
        for left in ("leave", "prune") + ("merge",) * sides[0]
        for right in ("leave", "prune") + ("merge",) * sides[1]
    )
    assert best.macs(positions) == min(each.macs(positions) for each in (form, *every))
    assert best.macs(positions) <= min(form.macs(positions), pruned(form, p, r).macs(positions))
    assert best.widths[0] == form.widths[0] and best.widths[-1] == form.widths[-1]
    if places == 1 and best is not form:
        assert best.before is None or best.behind is None


def test_only_what_a_single_reader_reads_is_a_rotation():
    inputs = keras.Input((16, 16, 3))
    conv = layers.Conv2D
    x = conv(4, 1, use_bias=False, name="in")(inputs)
    x = conv(5, 3, use_bias=False, name="core")(x)
    x = conv(6, 1, name="out")(x)  # its bias is in the way of the next
    x = conv(6, 3, use_bias=False, name="read_twice")(x)
    y = conv(6, 1, name="b")(x)
    x = layers.Add()([conv(6, 1, use_bias=False, name="a")(x), y])
    x = conv(6, 3, use_bias=False, name="activated", activation="relu")(x)
    x = conv(6, 1, use_bias=False, name="before_norm")(x)
    x = layers.BatchNormalization()(x)
    x = conv(6, 3, use_bias=False, name="strided")(x)
    x = conv(6, 1, strides=2, use_bias=False, name="shown")(x)
    z = conv(2, 1, name="end")(x)
    found = chains(keras.Model(inputs, [z, x]))
    assert [[layer.name for layer in chain.layers] for chain in found] == [
        ["in", "core", "out"],
        ["read_twice"],
        ["a"],
        ["b"],
        ["activated"],
        ["before_norm"],
        ["strided"],
        ["shown"],
        ["end"],
    ]


def test_two_dense_layers_in_a_row_are_a_core_and_its_rotation_out():
    inputs = keras.Input((8,))
    x = layers.Dense(3, use_bias=False, name="a")(inputs)
    model = keras.Model(inputs, layers.Dense(5, name="b")(x))
    (chain,) = chains(model)
    assert (chain.before, chain.core.name, chain.behind.name) == (None, "a", "b")


def test_a_layer_with_a_constraint_is_left_out():
    inputs = keras.Input((8,))
    constrained = layers.Dense(3, kernel_constraint=keras.constraints.MaxNorm())
    assert not chains(keras.Model(inputs, constrained(inputs)))


def residual():
    inputs = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(6, 3, padding="same", name="stem")(inputs)
    y = layers.BatchNormalization()(x)
    y = layers.Conv2D(6, 3, padding="same", use_bias=False, name="branch")(layers.ReLU()(y))
    x = layers.Add()([x, y])
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(4, name="logits")(x))


def nested():
    block = keras.Sequential(
        [keras.Input((8, 8, 3)), layers.Conv2D(5, 3, name="own"), layers.ReLU()], name="block"
    )
    inputs = keras.Input((8, 8, 3))
    x = layers.GlobalAveragePooling2D()(block(inputs))
    return keras.Model(inputs, layers.Dense(4, name="logits")(x))


def sequential():
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(5, 3, strides=2, name="conv"),
            layers.Flatten(),
            layers.Dense(4, name="logits"),
        ]
    )


def shared():
    inputs = [keras.Input((8, 8, 3), name="left"), keras.Input((8, 8, 3), name="right")]
    conv = layers.Conv2D(5, 3, activation="relu", name="shared")
    x = layers.Concatenate()([layers.Flatten()(conv(x)) for x in inputs])
    return keras.Model(inputs, {"a": layers.Dense(4, name="a")(x), "b": layers.Dense(2)(x)})


NETWORKS = {"residual": residual, "nested": nested, "sequential": sequential, "shared": shared}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_stay_what_they_compute(name):
    model = NETWORKS[name]()
    randomise(model)
    x = inputs_for(model)
    before, outputs = outputs_of(model, x), functional_of(model).output_names
    turned(model)
    turned(model, seed=1)
    assert_same(before, outputs_of(model, x), 1e-5)
    assert functional_of(model).output_names == outputs
    # A layer that is called twice is still one.
    assert sum(x.name == "shared_core" for x in model.layers) == (name == "shared")


def test_a_name_that_is_taken_is_not_taken_again():
    inputs = keras.Input((4,))
    x = layers.Dense(4, activation="relu", name="dense_core")(inputs)
    model = keras.Model(inputs, layers.Dense(4, name="dense")(x))
    turned(model)
    assert names_of(model) == [
        "dense_core_rotation_in",
        "dense_core_core",
        "dense_core",
        "dense_rotation_in",
        "dense_core_1",
        "dense",
    ]


def test_training_goes_on_with_the_slots_of_what_stays():
    model = residual()
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "mse")
    x, y = inputs_for(model, 8), np.zeros((8, 4), "float32")
    model.fit(x, y, verbose=0)
    model.get_layer("stem").kernel.regularizer = keras.regularizers.L2(0.25)

    def slots():
        return dict(
            zip(
                (v.path for v in model.optimizer._trainable_variables),
                map(keras.ops.convert_to_numpy, model.optimizer.momentums),
                strict=True,
            )
        )

    before = slots()
    turned(model, (0.5, 0.5))
    after = slots()
    kept = [path for path in after if "batch_normalization" in path]
    assert len(kept) == 2
    for path in kept:
        np.testing.assert_array_equal(before[path], after[path])
    assert len(after) == len(model.trainable_variables)
    cores = [layer for layer in model.layers if layer.name == "stem_core"]
    assert not np.any(after[next(p for p in after if "stem_core" in p)])
    assert cores[0].kernel.regularizer.l2 == pytest.approx(0.25)
    weights = [keras.ops.convert_to_numpy(v.value) for v in model.trainable_variables]
    model.fit(x, y, verbose=0)
    for old, new in zip(weights, model.trainable_variables, strict=True):
        if "rotation_in" in new.path or "core" in new.path:
            assert (old != keras.ops.convert_to_numpy(new.value)).any(), new.path


def test_regularizers_and_options_of_a_layer_go_along():
    inputs = keras.Input((6,))
    dense = layers.Dense(
        5,
        kernel_regularizer=keras.regularizers.L2(0.1),
        activity_regularizer=keras.regularizers.L2(0.1),
        activation=keras.activations.swish,
        name="dense",
    )
    model = keras.Model(inputs, layers.Dense(2, name="frozen", trainable=False)(dense(inputs)))
    turned(model)
    found = {layer.name: layer for layer in model.layers}
    assert all(found[f"dense{part}"].kernel_regularizer for part in ("_rotation_in", "_core", ""))
    assert found["dense_core"].activity_regularizer is None
    assert found["dense"].activity_regularizer is not None
    assert found["dense"].activation is keras.activations.swish
    assert not any(found[f"frozen{part}"].trainable for part in ("_rotation_in", "_core", ""))


@pytest.mark.parametrize("way", ["prune", "leave"])
def test_a_rotation_that_was_the_users_own_stays_theirs(way):
    inputs = keras.Input((8, 8, 6))
    l2 = keras.regularizers.L2(0.5)
    own = layers.Conv2D(5, 1, use_bias=False, name="squeeze", kernel_regularizer=l2)
    x = layers.Conv2D(4, 3, name="c")(own(inputs))
    x = layers.Dense(2, name="d")(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, x)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "mse")
    model.fit(inputs_for(model, 8), np.zeros((8, 2)), verbose=0)
    before = keras.ops.convert_to_numpy(slot_of(model, "squeeze/kernel"))
    turned(model, ways=(way, "prune"))
    squeeze = model.get_layer("squeeze")
    assert names_of(model)[:3] == ["squeeze", "c_core", "c"]
    assert squeeze.kernel_regularizer.l2 == squeeze.kernel.regularizer.l2 == 0.5
    assert model.get_layer("c").kernel.regularizer is None
    after = keras.ops.convert_to_numpy(slot_of(model, "squeeze/kernel"))
    assert np.any(before)
    np.testing.assert_array_equal(after, before if way == "leave" else 0 * before)


def slot_of(model, path):
    paths = [variable.path for variable in model.optimizer._trainable_variables]
    return model.optimizer.momentums[paths.index(path)]
