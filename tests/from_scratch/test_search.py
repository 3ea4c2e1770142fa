import dataclasses
import functools

import hypothesis
import hypothesis.strategies as st
import keras
import numpy as np
import pytest
from keras import layers

import ptkeras
from ptkeras import cost, from_scratch
from ptkeras.channels import trace
from ptkeras.from_scratch import structure
from ptkeras.from_scratch.gate_search import GateSearch
from ptkeras.from_scratch.gated_network import GatedNetwork, SparsityBalance, gated_rows
from ptkeras.models import build
from ptkeras.surgery.fresh import fresh, widen
from tests.exactness import assert_same, outputs_of, randomise, zero

pytestmark = pytest.mark.thorough

RANDOM = np.random.default_rng(0)
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def residual(scale=True, gate=None):
    """A network with a shortcut; `gate(x)` is put behind each batch norm and bare convolution."""
    gate = gate or (lambda x: x)

    def conv_norm(x, filters):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        return gate(layers.BatchNormalization(scale=scale)(x))

    inputs = keras.Input((8, 8, 2))
    x = layers.ReLU()(conv_norm(inputs, 8))
    y = layers.ReLU()(conv_norm(x, 12))
    x = layers.ReLU()(layers.Add()([x, conv_norm(y, 8)]))
    x = layers.Activation("sigmoid")(gate(layers.Conv2D(6, 3)(x)))  # without batch norm
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(3)(x))


def examples(count=64):
    y = RANDOM.integers(0, 3, count)
    x = RANDOM.normal(size=(count, 8, 8, 2)).astype("float32") + y[:, None, None, None]
    return x.astype("float32"), y


def search(model, **options):
    x, y = examples(96)
    options = {"loss": LOSS, "epochs": 2, "batch_size": 16, "verbose": 0} | options
    options = {"validation_data": (x[64:], y[64:])} | options
    return from_scratch.learn_gates(model, x[:64], y[:64], **options)


def test_a_gate_is_one_behind_batch_norm_and_before_the_activation():
    class Gate(layers.Layer):
        """Multiplies by what the test says, in the order of the calls."""

        def __init__(self):
            super().__init__()
            self.factors = 1.0

        def call(self, x):
            return x * self.factors

    made = []

    def gate(x):
        made.append(Gate())
        return made[-1](x)

    model, explicit = residual(), residual(gate=gate)
    for variable in model.trainable_variables:
        variable.assign(RANDOM.normal(size=variable.shape))
    explicit.set_weights(model.get_weights())
    channel_map = trace(model)
    gated = GatedNetwork(channel_map, 0.5, 0.0)
    gated.gates.assign(RANDOM.random(gated.gates.shape))
    by_channel = gated.gates_by_channel()
    convs = [row.channels for row in channel_map.slices if row.role == "output"][:-1]
    for one, channels in zip(made, convs, strict=True):
        one.factors = keras.ops.convert_to_tensor(by_channel[channels].astype("float32"))
    x, _ = examples(8)
    for training in (False, True):
        found, expected = (
            keras.ops.convert_to_numpy(network(x, training=training))
            for network in (gated, explicit)
        )
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    for ours, theirs in zip(gated.network.get_weights(), explicit.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)  # moving statistics too


def test_a_closed_gate_is_a_channel_that_is_gone():
    model = residual()
    channel_map = trace(model)
    gated = GatedNetwork(channel_map, 0.5, 0.0)
    open_gates = RANDOM.random(gated.gates.shape) < 0.6
    gated.gates.assign(open_gates.astype("float32"))
    x, _ = examples(8)
    # A convolution without batch norm that is closed makes sigmoid(0) of nothing, so it is kept.
    keep = gated.gates_by_channel() > 0
    bare = next(row.channels for row in channel_map.slices if row.variable.name == "bias")
    gated.gates.assign(np.where(np.isin(np.flatnonzero(channel_map.prunable), bare), 1, open_gates))
    keep[bare] = True
    expected = keras.ops.convert_to_numpy(gated(x))
    ptkeras.reconfigure(model, keep, channel_map=channel_map)
    np.testing.assert_allclose(model(x), expected, rtol=1e-4, atol=1e-5)


def normed(x, filters, **options):
    return layers.BatchNormalization()(layers.Conv2D(filters, 3, padding="same", **options)(x))


def a_bare_shortcut(x):
    return layers.ReLU()(layers.Add()([normed(x, 8), layers.Conv2D(8, 1)(x)]))


def a_scaled_shortcut(x):
    from keras.src.applications.inception_resnet_v2 import CustomScaleLayer

    x = layers.ReLU()(normed(x, 8))
    up = layers.Conv2D(8, 1)(layers.Concatenate()([layers.ReLU()(normed(x, 4)), x]))
    return layers.ReLU()(CustomScaleLayer(0.2)([x, up]))


def a_biased_depthwise(x):
    return layers.ReLU()(layers.DepthwiseConv2D(3)(layers.ReLU()(normed(x, 8))))


def a_group_norm(x):
    return layers.ReLU()(layers.GroupNormalization(2)(layers.Conv2D(8, 3)(x)))


def excited(main, norm=False):
    y = layers.GlobalAveragePooling2D(keepdims=True)(main)
    y = layers.Conv2D(8, 1)(layers.ReLU()(layers.Conv2D(4, 1)(y)))
    y = layers.BatchNormalization()(y) if norm else y
    return layers.Multiply()([main, layers.Activation("sigmoid")(y)])


def a_bare_excitation(x):
    return excited(layers.Conv2D(8, 3)(x), norm=True)


def a_nested_shortcut(x):
    inner = keras.Input((None, None, 8))
    block = keras.Model(inner, layers.Add()([normed(inner, 8), inner]))
    return block(block(layers.Conv2D(8, 1)(x)))


@pytest.mark.parametrize(
    "body",
    [
        a_bare_shortcut,
        a_scaled_shortcut,
        a_biased_depthwise,
        a_group_norm,
        a_bare_excitation,
        a_nested_shortcut,
    ],
)
def test_a_closed_gate_closes_every_way(body):
    inputs = keras.Input((8, 8, 2))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(5, 1)(body(inputs)))
    model = keras.Model(inputs, layers.Dense(3)(x))
    randomise(model)
    channel_map = trace(model)
    gated = GatedNetwork(channel_map, 0.5, 0.0)
    gated.gates.assign((RANDOM.random(gated.gates.shape) < 0.5).astype("float32"))
    x, _ = examples(4)
    got = outputs_of(gated, x)
    zero(channel_map, gated.gates_by_channel() > 0)
    assert_same(outputs_of(model, x), got)


def test_what_passes_batch_norm_has_no_second_gate():
    inputs = keras.Input((8, 8, 2))
    x = layers.Conv2D(8, 3, padding="same", name="stem")(inputs)
    y = layers.ReLU()(layers.BatchNormalization()(x))  # before the convolution, as in ResNetV2
    x = layers.Add()([x, layers.Conv2D(8, 3, padding="same", name="second")(y)])
    x = excited(layers.ReLU()(layers.BatchNormalization()(x)))
    x = layers.GlobalAveragePooling2D()(x)
    rows = gated_rows(trace(keras.Model(inputs, layers.Dense(3)(x))))
    kinds = [(type(row.layer).__name__, row.variable.name) for row, _ in rows]
    norms = [("BatchNormalization", name) for name in ("gamma", "beta")]
    squeeze = [("Conv2D", name) for name in ("kernel", "bias")]
    assert sorted(kinds) == sorted(2 * norms + squeeze)


@pytest.mark.parametrize("scale", [True, False])
def test_only_the_gates_train_and_stay_in_range(scale):
    model = residual(scale)
    before = model.get_weights()
    found = search(model, learning_rate=0.2, epochs=3)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    gates = found.gates[np.isfinite(found.gates)]
    assert len(gates) == 10 + 15 + 8  # a quarter more of 8, 12 and 6
    assert gates.min() >= 0 and gates.max() <= 1 and gates.std() > 0.05
    assert len(found.history) == 3 and found.seconds > 0


def test_the_weights_of_the_network_that_is_searched_are_frozen():
    channel_map = trace(residual())
    gated = GatedNetwork(channel_map, 0.5, 0.5)
    assert [v.name for v in gated.trainable_variables] == ["gates"]
    kernels = [v.numpy() for v in gated.network.weights if "kernel" in v.name]
    means = [v.numpy() for v in gated.network.weights if v.name == "moving_mean"]
    gated.compile(keras.optimizers.Adam(0.01), LOSS)
    gated.fit(*examples(), verbose=0)
    for old, new in zip(
        kernels, (v for v in gated.network.weights if "kernel" in v.name), strict=True
    ):
        np.testing.assert_array_equal(old, new.numpy())
    after = (v.numpy() for v in gated.network.weights if v.name == "moving_mean")
    assert all(np.abs(a - b).max() > 0 for a, b in zip(means, after, strict=True))


def test_the_balance_drives_the_mean_to_the_sparsity_ratio():
    balance = SparsityBalance(0.3, 5.0)
    assert float(balance(np.array([1.0, 0.5, 0.0, 0.5]))) == pytest.approx(5 * 0.2**2)
    found = search(
        residual(), balance_factor=1000.0, sparsity_ratio=0.3, learning_rate=0.05, epochs=12
    )
    assert found.gates[np.isfinite(found.gates)].mean() == pytest.approx(0.3, abs=0.05)


def test_kept_is_the_best_epoch_that_is_sparse_enough():
    def gates_with(share):
        """So many of 100 gates are open, hardly; a channel without a gate is behind them."""
        return np.append(np.where(np.arange(100) < 100 * share, 0.01, 0), np.inf)

    best = GateSearch({"sparsity_ratio": 0.5})
    epochs = [(0.9, 0.8), (0.6, 0.5), (0.7, 0.4), (0.7, 0.3), (0.9, 0.51)]
    for number, (accuracy, share) in enumerate(epochs):
        gates = gates_with(share)
        best.set_model(type("Model", (), {"gates_by_channel": lambda self, g=gates: g})())
        best.on_epoch_end(number, {"val_loss": 1.0, "val_accuracy": accuracy})
    assert best.epoch == 3 and np.count_nonzero(best.gates[:-1]) == 40
    none = GateSearch({"sparsity_ratio": 0.2})
    for number, (accuracy, share) in enumerate(epochs):
        gates = gates_with(share)
        none.set_model(type("Model", (), {"gates_by_channel": lambda self, g=gates: g})())
        none.on_epoch_end(number, {"val_loss": 1.0, "val_accuracy": accuracy})
    assert none.epoch == 4


@pytest.mark.parametrize("name", ["resnet20", "vgg8", "mobilenet"])
@pytest.mark.parametrize("budget", [1.0, 0.5, 0.125])
def test_structures_meet_the_budget(name, budget):
    model = build(name, (32, 32, 3), 10)
    channel_map = trace(widen(model, 1.25))
    random = np.random.default_rng(0).random(len(channel_map))
    gates = np.where(channel_map.prunable, np.round(random, 1), np.inf)  # many are equal
    found = from_scratch.Search(channel_map, cost.inference_flops(model), gates, 1, [], 0.0)
    small = found.build(budget)
    share = cost.inference_flops(small) / cost.inference_flops(model)
    assert share == pytest.approx(budget, rel=0.01)
    assert found.budget_epochs(100, budget) == pytest.approx(100 / budget, rel=0.011)
    keep = found.keep(budget)
    free = np.isfinite(gates)
    assert gates[free & keep].mean() > gates[free & ~keep].mean()


@pytest.mark.parametrize("budget", [0.3, 0.45, 0.7])
def test_few_graphs_are_built_where_flops_are_counted_on_them(budget, monkeypatch):
    x = keras.Input((6, 8))
    y = layers.Dense(24)(x)
    y = layers.Add()([y, layers.MultiHeadAttention(2, 8)(y, y)])
    y = layers.Add()([y, layers.Dense(24)(layers.ReLU()(layers.Dense(96)(y)))])
    model = keras.Model(x, layers.Dense(3)(layers.GlobalAveragePooling1D()(y)))
    channel_map = trace(model)
    random = np.random.default_rng(0).random(len(channel_map))
    gates = np.where(channel_map.prunable, random, np.inf)
    found = from_scratch.Search(channel_map, cost.inference_flops(model), gates, 1, [], 0.0)
    built = []
    without = structure.without
    monkeypatch.setattr(structure, "without", lambda *a: built.append(a) or without(*a))
    small = found.build(budget)
    share = cost.inference_flops(small) / cost.inference_flops(model)
    assert share == pytest.approx(budget, rel=0.01)
    masks = [keep.tobytes() for _, keep in built]
    assert len(set(masks)) == len(masks)
    assert 5 < len(built) <= 2 * np.log2(len(channel_map)) + 5
    before = len(built)
    found.keep(budget)[:] = True
    assert found.keep(budget).sum() < len(channel_map) and len(built) == before


@hypothesis.given(st.integers(0, 999), st.floats(0.1, 0.4))
@hypothesis.settings(max_examples=20)
def test_narrow_networks_with_shortcuts_meet_any_budget(seed, budget):
    found = narrow()
    gates = np.random.default_rng(seed).random(len(found.gates))
    gates = np.where(np.isfinite(found.gates), gates, np.inf)
    found = dataclasses.replace(found, gates=gates)
    flops = structure.flops_of(found.channel_map)(found.keep(budget))
    assert flops / found.flops == pytest.approx(budget, rel=0.01)


@functools.cache
def narrow():
    """A search of coarse steps: a channel of its first shortcuts is over 1 % of the FLOPs."""
    model = build("resnet20", (8, 8, 1), 10)
    channel_map = trace(widen(model, 1.25))
    gates = np.where(channel_map.prunable, 0.0, np.inf)
    return from_scratch.Search(channel_map, cost.inference_flops(model), gates, 1, [], 0.0)


def test_a_small_network_starts_afresh_and_saves_as_plain_keras(tmp_path):
    found = search(build("vgg8", (8, 8, 2), 3), epochs=1)
    first, second = found.build(0.6), found.build(0.6)
    assert [v.shape for v in first.weights] == [v.shape for v in second.weights]
    assert np.abs(first.weights[0].numpy() - second.weights[0].numpy()).max() > 0
    assert all(v.trainable for v in first.trainable_variables) and first.trainable_variables
    first.save(tmp_path / "small.keras")
    assert "ptkeras" not in keras.models.load_model(tmp_path / "small.keras").to_json()


def test_wider_networks_keep_their_graph():
    x = keras.Input((8, 8, 3))
    y = layers.Conv2D(8, 3, padding="same")(x)
    y = layers.Conv2D(8, 3, groups=4, padding="same")(y)
    y = layers.DepthwiseConv2D(3, padding="same")(y)
    y = layers.Concatenate()([y, layers.Conv2D(4, 1)(x)])
    inner = keras.Sequential([keras.Input((8, 8, 12)), layers.Conv2D(12, 1), layers.ReLU()])
    y = layers.Flatten()(layers.Add()([y, inner(y)]))
    model = keras.Model(x, layers.Dense(5)(layers.Dense(10)(y)))
    wide = widen(model, 1.5)
    assert wide.output_shape == model.output_shape
    assert [v.shape[-1] for v in wide.weights if v.name == "kernel"] == [12, 12, 1, 6, 18, 15, 5]
    assert wide(np.zeros((1, 8, 8, 3))).shape == (1, 5)
    y = layers.Conv2D(8, 3, padding="same")(x)
    wide = widen(keras.Model(x, layers.Dense(2)(keras.ops.reshape(y, (-1, 512)))), 1.5)
    assert wide.layers[-1].kernel.shape == (768, 2)


def test_dropped_channels_are_those_of_the_mask():
    model = residual()
    channel_map = trace(model)
    keep = channel_map.frozen | (np.arange(len(channel_map)) % 3 > 0)
    untrained = fresh(channel_map, keep)
    ptkeras.reconfigure(model, keep, channel_map=channel_map)
    assert [v.shape for v in untrained.weights] == [v.shape for v in model.weights]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"sparsity_ratio": "0.5"}, "over 0 and at most 1; received '0.5'"),
        ({"epochs": "3"}, "epochs .* whole number from 1; received '3'"),
        ({"epochs": 2, "initial_epoch": 2}, "needs an epoch .* epochs=2 and initial_epoch=2"),
        ({"learning_rate": float("nan")}, "learning_rate .* received nan"),
        ({"sparsity_ratio": 0}, "sparsity_ratio .* over 0 and at most 1; received 0"),
        ({"balance_factor": -1}, "balance_factor"),
        ({"channel_expansion": 0.5}, "channel_expansion"),
        ({"epochs": 0}, "epochs"),
        ({"learning_rate": 0}, "learning_rate"),
        ({"loss": None}, "not compiled with a loss"),
        ({"validation_data": None}, "judges its gates by validation_data; received None"),
        ({"validation_freq": 2}, "validation_freq must be 1; received 2"),
    ],
)
def test_what_is_out_of_range_is_told_of(options, says):
    with pytest.raises(ValueError, match=says):
        search(residual(), **options)


def two_units():
    """A search with two structures, of 28 FLOPs and 14."""
    x = keras.Input((4,))
    channel_map = trace(keras.Model(x, layers.Dense(3)(layers.Dense(2)(x))))
    gates = np.where(channel_map.prunable, 0.0, np.inf)
    return from_scratch.Search(channel_map, 28, gates, 1, [], 0.0)


def test_the_nearest_of_all_structures_is_named():
    with pytest.raises(ValueError, match=r"nearest to a budget of 0.7 .* has 0.5000 of them"):
        two_units().keep(0.7)


def test_budget_training_is_for_an_epoch_at_least():
    found = two_units()
    assert [found.budget_epochs(epochs, 0.5) for epochs in (0, 1, 3)] == [0, 2, 6]
    wider = dataclasses.replace(found, flops=7)  # what it was searched for has a quarter
    assert [wider.budget_epochs(epochs, 4.0) for epochs in (0, 1, 8)] == [0, 1, 2]


def test_what_cannot_be_met_is_told_of():
    found = search(residual(), epochs=1)
    with pytest.raises(ValueError, match=r"nearest to a budget of 0.001 of the FLOPs has"):
        found.build(0.001)
    with pytest.raises(ValueError, match="budget"):
        found.build(0)
    with pytest.raises(ValueError, match=r"budget .* received '0.5'"):
        found.build("0.5")
    x = keras.Input((4,))
    with pytest.raises(ValueError, match="no channels that could go"):
        search(keras.Model(x, layers.Dense(3)(x)))


def test_a_search_that_breaks_is_told_of_at_once():
    x, y = examples(48)
    broken = np.where(np.arange(48)[:, None, None, None] == 20, np.nan, x)
    steps = []
    count = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: steps.append(batch)
    )
    options = {"loss": LOSS, "batch_size": 16, "shuffle": False, "verbose": 0}
    with pytest.raises(ValueError, match="The loss is nan in the gate search"):
        from_scratch.learn_gates(
            residual(), broken, y, validation_data=(x, y), callbacks=[count], **options
        )
    assert len(steps) == 2
    with pytest.raises(ValueError, match="loss of the validation data is nan"):
        from_scratch.learn_gates(residual(), x, y, validation_data=(broken, y), **options)
    best = GateSearch({"sparsity_ratio": 0.5})
    best.set_model(
        type("Model", (), {"gates_by_channel": lambda self: np.array([np.nan, np.inf])})()
    )
    with pytest.raises(ValueError, match="sum of the gates is nan"):
        best.on_epoch_end(0, {"val_loss": 0.5, "val_accuracy": 0.5})


def test_the_loss_of_the_model_will_do():
    model = residual()
    model.compile("sgd", LOSS)
    plateau = keras.callbacks.ReduceLROnPlateau()
    assert search(model, loss=None, epochs=1, callbacks=plateau).epoch == 1


@pytest.mark.parametrize("policy", ["bfloat16", "mixed_bfloat16"])
def test_gates_of_narrow_weights_are_learned(policy):
    keras.config.set_dtype_policy(policy)
    try:
        gates = search(residual(), learning_rate=0.1, epochs=1).gates
    finally:
        keras.config.set_dtype_policy("float32")
    assert gates.dtype == float and gates[np.isfinite(gates)].std() > 0.02


def test_open_sizes_are_told_of_before_the_gates_are_learned():
    x = keras.Input((None, None, 2))
    y = layers.GlobalAveragePooling2D()(layers.Conv2D(8, 3)(x))
    with pytest.raises(ValueError, match=r"sizes of its inputs open, \(None, None, None, 2\)"):
        search(keras.Model(x, layers.Dense(3)(y)), callbacks=[keras.callbacks.ReduceLROnPlateau()])


@pytest.mark.parametrize("named", [True, False])
def test_several_outputs_count_alike(named):
    x = keras.Input((8, 8, 2))
    y = layers.GlobalAveragePooling2D()(layers.Conv2D(8, 3)(x))
    one, two = layers.Dense(3, name="one")(y), layers.Dense(3, name="two")(y)
    model = keras.Model(x, {"one": one, "two": two} if named else [one, two])
    model.compile("sgd", {"one": LOSS, "two": LOSS} if named else [LOSS, LOSS])
    x, y = examples()
    targets = {"one": y, "two": 0 * y} if named else [y, 0 * y]
    seen = {}
    log = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.update(logs))
    found = from_scratch.learn_gates(
        model, x, targets, validation_data=(x, targets), epochs=1, verbose=0, callbacks=[log]
    )
    both = [seen["val_one_accuracy"], seen["val_two_accuracy"]]
    assert found.history[0]["accuracy"] == pytest.approx(np.mean(both))


def ending(classes, activation=None):
    inputs = keras.Input((8, 8, 2))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(8, 3)(inputs))
    return keras.Model(inputs, layers.Dense(classes, activation=activation)(x))


@pytest.mark.parametrize("from_logits", [True, False])
@pytest.mark.parametrize("classes", [1, 2])
def test_two_sided_losses_have_their_own_accuracy(from_logits, classes):
    x, y = examples(64)
    y = np.stack([y > 0, y > 1][:classes], 1).astype("float32")
    loss = keras.losses.BinaryCrossentropy(from_logits=from_logits)
    model = ending(classes, None if from_logits else "sigmoid")
    saved = {}

    class Predict(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            scores = keras.ops.convert_to_numpy(self.model(x, training=False))
            saved["accuracy"] = np.mean((scores > (0 if from_logits else 0.5)) == y)

    found = from_scratch.learn_gates(
        model, x, y, loss=loss, validation_data=(x, y), epochs=1, verbose=0, callbacks=[Predict()]
    )
    assert found.history[0]["accuracy"] == pytest.approx(saved["accuracy"])


def test_without_an_accuracy_there_is_no_search():
    x, _ = examples(32)
    model = ending(1)
    model.compile("sgd", "mse", metrics=["mae"])
    options = {"validation_data": (x, x[:, 0, 0, :1]), "epochs": 1, "verbose": 0}
    with pytest.raises(ValueError, match=r"the loss 'mse' does not say which accuracy.*regression"):
        from_scratch.learn_gates(model, x, x[:, 0, 0, :1], **options)


def test_the_accuracy_of_the_model_goes_with_any_loss():
    x, y = examples(32)
    model = ending(3)
    own = keras.metrics.SparseCategoricalAccuracy("own_accuracy")

    def loss(truth, scores):
        return LOSS(truth, scores)

    model.compile("sgd", loss, metrics=[own, keras.metrics.SparseCategoricalCrossentropy("mae")])
    found = from_scratch.learn_gates(model, x, y, validation_data=(x, y), epochs=1, verbose=0)
    assert 0 < found.history[0]["accuracy"] <= 1
    assert float(own.count) == 0  # a metric of its own for the gates


def test_the_weights_of_several_losses_count():
    inputs = keras.Input((8, 8, 2))
    y = layers.GlobalAveragePooling2D()(layers.Conv2D(8, 3)(inputs))
    model = keras.Model(inputs, [layers.Dense(3, name=name)(y) for name in ("one", "two")])
    model.compile("sgd", [LOSS, LOSS], loss_weights=[0.0, 3.0])
    x, y = examples(32)
    seen = {}
    log = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.update(logs))
    from_scratch.learn_gates(
        model,
        x,
        [y, y],
        validation_data=(x, [y, y]),
        balance_factor=0.0,
        epochs=1,
        verbose=0,
        callbacks=[log],
    )
    assert seen["val_loss"] == pytest.approx(3 * seen["val_two_loss"], rel=1e-5)


def test_a_loss_by_the_name_of_the_output_will_do():
    model = residual()
    model.compile("sgd", {model.output_names[0]: LOSS})
    assert search(model, loss=None, epochs=1).epoch == 1


def test_what_was_found_in_the_data_is_kept():
    x, _ = examples()
    norm = layers.Normalization()
    norm.adapt(5 * x + 3)
    inputs = keras.Input((8, 8, 2))
    y = layers.Flatten()(layers.Conv2D(8, 3)(norm(inputs)))
    wide = widen(keras.Model(inputs, layers.Dense(3)(y)), 2)
    small = fresh(trace(wide))
    for model in (wide, small):
        np.testing.assert_allclose(model.layers[1](x), norm(x), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.tensorflow
def test_gates_are_learned_on_several_devices():
    from tests.helpers.two_devices import mirrored_strategy

    with mirrored_strategy().scope():
        model = residual()
    found = search(model, learning_rate=0.1)
    gates = found.gates[np.isfinite(found.gates)]
    assert gates.std() > 0.02
