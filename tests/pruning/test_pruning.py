import math
import pathlib

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

import ptkeras
from ptkeras import cost, importance, latency
from ptkeras.channels import trace
from ptkeras.cost.prediction import Prediction
from ptkeras.pruning.plan import Plan
from tests.exactness import assert_exact, assert_same, inputs_for, outputs_of, randomise

SCOPES = ("global", "layer", "group")


def digits():
    # Not through ptkeras.data, which needs TensorFlow.
    with np.load(pathlib.Path(ptkeras.__file__).parent / "data" / "digits.npz") as file:
        images, labels = file["images"], file["labels"]
    # The file has one writer after the other.
    order = np.random.default_rng(0).permutation(len(labels))
    images, labels = images[order], labels[order]
    return images.reshape(-1, 8, 8, 1).astype("float32") / 16.0, labels


def conv(x, filters, name, **kwargs):
    x = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=name, **kwargs)(x)
    return layers.ReLU()(layers.BatchNormalization(momentum=0.8, name=f"{name}_bn")(x))


def residual(width=8):
    inputs = keras.Input((8, 8, 1))
    x = conv(inputs, width, "stem")
    y = conv(conv(x, width, "inner"), width, "outer")
    x = layers.Add()([x, y])
    x = layers.MaxPooling2D()(conv(x, 2 * width, "wide"))
    x = layers.Dense(12, activation="relu", name="dense")(layers.Flatten()(x))
    return keras.Model(inputs, layers.Dense(10, name="head")(x))


def mobile():
    """Depthwise, separable and grouped convolutions."""
    inputs = keras.Input((8, 8, 3))
    x = conv(inputs, 8, "stem")
    x = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, name="depthwise")(x)
    x = layers.SeparableConv2D(12, 3, strides=2, name="separable")(x)
    x = conv(x, 8, "grouped", groups=2)
    x = layers.Conv2D(8, 3, groups=8, name="as_many_groups")(x)
    x = layers.Conv2DTranspose(6, 3, name="transposed")(x)
    return keras.Model(inputs, layers.Dense(4, name="head")(layers.GlobalMaxPooling2D()(x)))


def dense_net():
    inputs = keras.Input((6, 6, 2))
    x = inputs
    for i in range(3):
        x = layers.Concatenate()([x, conv(x, 6, f"conv{i}")])
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(3, name="head")(x))


def nested():
    """A nested model and a layer that is called twice."""
    inner_inputs = keras.Input((10,))
    inner = layers.Dense(12, activation="relu", name="hidden")(inner_inputs)
    inner = keras.Model(inner_inputs, layers.Dense(10, name="out")(inner), name="encoder")
    twice = layers.Dense(10, activation="relu", name="twice")
    inputs = keras.Input((5,))
    x = layers.Dense(10, name="first")(inputs)
    x = layers.Add()([inner(twice(twice(x))), x])
    return keras.Model(inputs, layers.Dense(2, name="head")(x))


def sequential():
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(6, 3, activation="relu", name="conv"),
            layers.Flatten(),
            layers.Dense(9, activation="relu", name="dense"),
            layers.Dense(10, name="head"),
        ]
    )


NETWORKS = (residual, mobile, dense_net, nested, sequential)


def everything(channel_map):
    return np.ones(len(channel_map), bool)


def free(channel_map):
    return int((~channel_map.frozen).sum())


def change(report, name):
    return next(layer for layer in report.layers if layer.name.split("/")[-1] == name)


def masks_of(model, shares, of="channels", **kwargs):
    return [ptkeras.prune(model, s, of, dry_run=True, **kwargs).keep for s in shares]


# What comes out.


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("of", ["channels", "flops", "params"])
def test_a_dry_run_says_exactly_what_will_be(network, of):
    model = network()
    randomise(model)
    weights = model.get_weights()
    would = ptkeras.prune(model, 0.4, of, criterion="l1", dry_run=True)
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    did = ptkeras.prune(model, 0.4, of, criterion="l1")
    assert did == would
    assert did.params[1] == model.count_params() < did.params[0]
    assert did.macs[1] == cost.macs(model) < did.macs[0]
    measured = {}
    for layer in cost.layer_costs(model):
        measured[layer.name] = measured.get(layer.name, 0) + layer.macs
    for layer in did.layers:
        assert layer.macs[1] == measured[layer.name]
    assert sum(layer.macs[1] for layer in did.layers) == did.macs[1]


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("scope", SCOPES)
def test_pruning_is_exact(network, scope):
    def keep(channel_map):
        return ptkeras.prune(channel_map.model, 0.5, scope=scope, dry_run=True).keep

    before, after = assert_exact(network(), keep)
    assert after < before


@given(
    network=st.sampled_from(NETWORKS),
    of=st.sampled_from(["channels", "flops", "params"]),
    scope=st.sampled_from(SCOPES),
    share=st.floats(0.02, 0.6),
    multiple=st.sampled_from([1, 1, 2, 4]),
    seed=st.integers(0, 5),
)
@settings(max_examples=60)
def test_targets_are_met_and_not_with_a_channel_less(network, of, scope, share, multiple, seed):
    keras.utils.clear_session(free_memory=False)
    model = network()
    channel_map = trace(model)
    criterion = importance.random(seed)
    arguments = {"criterion": criterion, "scope": scope, "channel_multiple": multiple}
    try:
        report = ptkeras.prune(model, share, of, dry_run=True, **arguments)
    except ValueError as error:
        assert multiple > 1  # rounding up leaves little to take from layers of a few channels
        assert "at most" in str(error)
        return
    prediction = Prediction(channel_map)
    remaining = {
        "channels": lambda keep: int(keep[~channel_map.frozen].sum()),
        "flops": lambda keep: sum(prediction.macs(keep)),
        "params": lambda keep: ptkeras.cost.prediction.params(channel_map, keep),
    }[of]
    total = remaining(everything(channel_map))
    assert remaining(report.keep) <= total * (1 - share) * (1 + 1e-6)
    plan = Plan(
        channel_map, criterion, scope, np.zeros(len(channel_map), bool), {}, multiple=multiple
    )
    counts = [n for n in range(len(plan.order) + 1) if (plan.keep(n) == report.keep).all()]
    assert counts
    assert remaining(plan.keep(counts[0] - 1)) > total * (1 - share)
    if of == "channels" and multiple == 1:
        assert (~report.keep).sum() == math.ceil(share * total - 1e-6)


@given(
    network=st.sampled_from(NETWORKS),
    of=st.sampled_from(["channels", "flops", "params"]),
    scope=st.sampled_from(SCOPES),
    shares=st.tuples(st.floats(0, 0.6), st.floats(0, 0.6)).map(sorted),
)
@settings(max_examples=30)
def test_a_larger_share_takes_the_same_channels_and_more(network, of, scope, shares):
    keras.utils.clear_session(free_memory=False)
    less, more = masks_of(network(), shares, of, scope=scope)
    assert (less | ~more).all()


@given(
    network=st.sampled_from(NETWORKS),
    seed=st.integers(0, 100),
    share=st.floats(0.1, 0.9),
    least=st.integers(1, 3),
)
@settings(max_examples=25)
def test_any_plan_can_be_carried_out_and_is_predicted_exactly(network, seed, share, least):
    keras.utils.clear_session(free_memory=False)
    model = network()
    channel_map = trace(model)
    plan = Plan(
        channel_map,
        importance.random(seed),
        "global",
        np.zeros(len(channel_map), bool),
        {},
        least=least,
    )
    keep = plan.keep(round(share * len(plan.order)))
    sizes = {r.layer.name: len(r.channels) for r in channel_map.slices if r.role == "output"}
    prediction = Prediction(channel_map)
    assert prediction.exact
    macs, params = sum(prediction.macs(keep)), ptkeras.cost.prediction.params(channel_map, keep)
    ptkeras.reconfigure(model, keep, channel_map=channel_map)
    assert (cost.macs(model), model.count_params()) == (macs, params)
    for row in trace(model).slices:
        if row.role == "output":
            assert len(row.channels) >= min(least, sizes[row.layer.name])


# Scopes, overrides and limits.


@pytest.mark.parametrize("scope", ["layer", "group"])
def test_every_layer_loses_the_same_share(scope):
    report = ptkeras.prune(residual(), 0.25, scope=scope)
    for name in ("stem", "inner", "outer", "wide", "dense"):
        before, after = change(report, name).channels
        assert abs(after - 0.75 * before) <= 1
    assert change(report, "head").channels == (10, 10)


def test_the_global_scope_takes_what_is_weak():
    model = residual()
    kernel = model.get_layer("wide").kernel
    kernel.assign(kernel * np.where(np.arange(16) < 10, 1e-3, 1.0))
    # Not only the kernel that makes the channels counts: the one that reads them is as it was.
    reader = model.get_layer("dense").kernel
    reader.assign(reader * np.tile(np.where(np.arange(16) < 10, 1e-3, 1.0), 16)[:, None])
    report = ptkeras.prune(model, 10 / 44)
    assert change(report, "wide").channels == (16, 6)
    assert change(report, "inner").channels == (8, 8)


def test_partly_tied_layers_are_one_group():
    inputs = keras.Input((6,))
    narrow = layers.Dense(4, name="narrow")(inputs)
    wide = layers.Dense(8, name="wide")(keras.ops.relu(narrow))
    x = layers.Add()([wide, keras.ops.pad(narrow, [[0, 0], [0, 4]])])
    model = keras.Model(inputs, layers.Dense(2)(x))
    kernel = model.get_layer("narrow").kernel
    kernel.assign(kernel * 100.0)
    by_layer = ptkeras.prune(model, 0.5, scope="layer", dry_run=True)
    assert change(by_layer, "narrow").channels == (4, 2)
    by_group = ptkeras.prune(model, 0.5, scope="group", dry_run=True)
    assert change(by_group, "narrow").channels == (4, 4)


def test_overrides_and_layers_left_alone():
    model = residual()
    arguments = {"overrides": {"wide": 0.25}, "leave_alone": ["inner"], "scope": "layer"}
    report = ptkeras.prune(model, 0.5, **arguments)
    assert change(report, "wide").channels == (16, 12)
    assert change(report, "inner").channels == (8, 8)
    assert change(report, "stem").channels == change(report, "outer").channels == (8, 4)
    assert change(report, "dense").channels == (12, 6)


def test_a_target_over_the_whole_model_counts_overrides():
    model = residual()
    report = ptkeras.prune(model, 0.5, "flops", overrides={"inner": 0.125}, leave_alone=["stem_bn"])
    assert change(report, "inner").channels == (8, 7)
    assert change(report, "stem").channels == (8, 8)
    assert 0.5 <= 1 - report.macs[1] / report.macs[0] < 0.6


def test_overrides_alone():
    report = ptkeras.prune(residual(), 0, overrides={"dense": 0.3})
    assert change(report, "dense").channels == (12, 8)  # 8.4 would stay: at least 0.3 go
    assert change(report, "wide").channels == (16, 16)


def test_a_nested_layer_is_named_by_its_path():
    report = ptkeras.prune(nested(), 0, overrides={"encoder/hidden": 0.5})
    assert change(report, "hidden").channels == (12, 6)


def test_a_nested_model_stands_for_its_layers():
    inner = keras.Sequential([keras.Input((8,)), layers.Dense(12, name="hidden")], name="encoder")
    model = keras.Sequential(
        [keras.Input((5,)), layers.Dense(8, name="first"), inner, layers.Dense(2)]
    )
    report = ptkeras.prune(model, 0.5, leave_alone=["encoder"], dry_run=True)
    assert change(report, "hidden").channels == (12, 12)
    assert change(report, "first").channels == (8, 4)
    report = ptkeras.prune(nested(), 0, overrides={"encoder": 0.25}, dry_run=True)
    assert change(report, "hidden").channels == (12, 9)
    both = {"encoder": 0.25, "encoder/hidden": 0.5}
    assert change(ptkeras.prune(nested(), 0, overrides=both), "hidden").channels == (12, 6)


@pytest.mark.parametrize("multiple", [2, 4])
def test_channel_multiple(multiple):
    model = residual()
    ptkeras.prune(model, 0.3, "flops", channel_multiple=multiple)
    for layer in trace(model).produced().values():
        assert len(layer) % multiple == 0 or len(layer) == 10


def test_min_channels():
    model = residual()
    report = ptkeras.prune(model, 0.4, "flops", min_channels=5, criterion="random")
    assert min(layer.channels[1] for layer in report.layers) >= 5


def test_latency_takes_the_weights_of_layers_and_kinds():
    weights = {"Conv2D": 1.0, "wide": 50.0, "Dense": 0.0}
    report = ptkeras.prune(residual(), 0.5, weights, scope="layer")
    layer = {layer.name: layer for layer in report.layers}

    def weighted(i):
        convs = sum(layer[n].macs[i] for n in ("stem", "inner", "outer"))
        return 50 * layer["wide"].macs[i] + convs

    assert 0.4 < weighted(1) / weighted(0) <= 0.5


def test_measured_latency():
    model = residual(16)
    weights = latency.measure(model, batch_size=4, repeats=2)
    assert set(weights) == {"Conv2D", "Dense"}
    assert all(weight > 0 for weight in weights.values())
    report = ptkeras.prune(model, 0.3, of="latency")
    assert report.macs[1] < report.macs[0]
    with pytest.raises(ValueError, match="repeats must be a whole number from 1; received 0"):
        latency.measure(model, repeats=0)


def test_products_without_kernels_are_counted_on_the_graph():
    inputs = keras.Input((6, 4))
    x = layers.Dense(16, activation="relu", name="a")(inputs)
    x = layers.Dense(16, activation="relu", name="b")(x)
    with pytest.warns(UserWarning) if not _knows_attention() else _nothing():
        y = layers.Attention()([layers.Dense(8, name="q")(x), layers.Dense(8, name="v")(x)])
        model = keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling1D()(y)))
        assert not Prediction(trace(model)).exact
        would = ptkeras.prune(model, 0.4, "flops", dry_run=True)
        report = ptkeras.prune(model, 0.4, "flops")
    assert would == report
    assert cost.macs(model) == report.macs[1]
    assert 0.3 * report.macs[0] < report.macs[1] <= 0.6 * report.macs[0]


def _knows_attention():
    from ptkeras.channels.registry import _RULES

    return layers.Attention in _RULES


class _nothing:  # noqa: N801
    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def test_open_sizes_need_an_input_shape_for_flops_alone():
    inputs = keras.Input((None, None, 3))
    x = layers.Conv2D(8, 3, name="conv")(inputs)
    model = keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))
    report = ptkeras.prune(model, 0.5, dry_run=True)
    assert report.macs is None
    assert change(report, "conv").channels == (8, 4)
    assert "conv" in str(report)
    with pytest.raises(ValueError, match="input_shape"):
        ptkeras.prune(model, 0.5, "flops")
    report = ptkeras.prune(model, 0.5, "flops", input_shape=(8, 8, 3))
    assert report.macs[1] == cost.macs(model, (8, 8, 3))


# Trained models.


def compiled(model, optimizer=None):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer or keras.optimizers.Adam(0.003), loss, metrics=["accuracy"])
    return model


def test_a_compiled_model_keeps_its_optimizer_and_trains_on():
    model = compiled(residual())
    x, y = digits()
    model.fit(x[:64], y[:64], verbose=0)
    optimizer, iterations = model.optimizer, int(model.optimizer.iterations.value)
    report = ptkeras.prune(model, 0.3, scope="layer", leave_alone=["stem"], dry_run=True)
    row = next(r for r in trace(model).slices if r.layer.name == "inner" and r.role == "output")
    slot = _slot(model, "inner")
    ptkeras.prune(model, 0.3, scope="layer", leave_alone=["stem"])
    assert model.optimizer is optimizer
    assert int(optimizer.iterations.value) == iterations
    assert not report.keep[row.channels].all()
    np.testing.assert_array_equal(_slot(model, "inner"), slot[..., report.keep[row.channels]])
    history = model.fit(x[:64], y[:64], epochs=2, verbose=0).history["loss"]
    assert np.isfinite(history).all()


def _slot(model, name):
    """The second moments that Adam keeps of a layer's kernel."""
    index = [id(v) for v in model.trainable_variables].index(id(model.get_layer(name).kernel))
    return keras.ops.convert_to_numpy(model.optimizer._velocities[index].value)


@pytest.mark.compiles_much
def test_accuracy_survives_and_taylor_is_better_than_chance():
    x, y = digits()
    keras.utils.set_random_seed(1)
    model = compiled(residual())
    model.fit(x[:1400], y[:1400], batch_size=32, epochs=6, verbose=0)
    trained = model.get_weights()

    def accuracy(criterion, epochs=0):
        model = compiled(residual())
        model.set_weights(trained)
        ptkeras.prune(model, 0.3, "flops", criterion=criterion)
        model.fit(x[:1400], y[:1400], batch_size=32, epochs=epochs, verbose=0)
        return model.evaluate(x[1400:], y[1400:], verbose=0)[1]

    taylor = importance.taylor(x[:256], y[:256], signed=False)
    assert accuracy(taylor) > np.mean([accuracy(importance.random(seed)) for seed in range(3)])
    assert accuracy(taylor, epochs=1) > 0.9


@pytest.mark.compiles_much
def test_steps_with_fine_tuning_between():
    model = compiled(residual())
    x, y = digits()
    first = cost.macs(model)
    seen = []

    def finetune(current, step):
        assert current is model
        current.fit(x[:32], y[:32], verbose=0)
        seen.append((step, 1 - cost.macs(current) / first))

    arguments = {"overrides": {"dense": 0.5}, "criterion": importance.taylor(x[:64], y[:64])}
    report = ptkeras.prune(model, 0.6, "flops", steps=3, finetune=finetune, **arguments)
    assert [step for step, _ in seen] == [1, 2, 3]
    for (_, removed), wanted in zip(seen, (0.2, 0.4, 0.6), strict=True):
        assert wanted <= removed < wanted + 0.15
    assert change(report, "dense").channels == (12, 6)
    assert report.macs == (first, cost.macs(model))
    assert report.keep is None


def test_steps_by_channels_end_where_one_step_does():
    for steps in (1, 4):
        model = residual()
        before = free(trace(model))
        ptkeras.prune(model, 0.5, steps=steps, scope="layer")
        assert free(trace(model)) == before - math.ceil(0.5 * before)


def test_a_pruned_model_saves_and_loads(tmp_path):
    model = residual()
    ptkeras.prune(model, 0.5)
    x = inputs_for(model)
    model.save(tmp_path / "pruned.keras")
    loaded = keras.models.load_model(tmp_path / "pruned.keras")
    assert_same(outputs_of(model, x), outputs_of(loaded, x))


def test_the_report_is_a_table():
    report = ptkeras.prune(residual(), 0.5, "flops", dry_run=True)
    text = str(report)
    assert "What would go" in text
    row = next(line for line in text.splitlines() if " wide " in line)
    layer = change(report, "wide")
    assert f"{layer.macs[0]:,}" in row
    assert f"{layer.macs[1]:,}" in row
    assert f"{report.params[1]:,}" in text
    assert report.channels == (8 + 8 + 8 + 16 + 12 + 10, report.channels[1])


# Refusals.


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"share": 1.0}, r"share .* from 0 and under 1; received 1\.0"),
        ({"share": "half"}, "share .* received 'half'"),
        ({"share": True}, "share .* received True"),
        ({"share": float("nan")}, "share .* received nan"),
        ({"of": "speed"}, "of .* received 'speed'"),
        ({"scope": "local"}, "scope .* received 'local'"),
        ({"criterion": "l3"}, "criterion .* received 'l3'"),
        ({"criterion": "taylor"}, r"importance\.taylor\(x, y\)"),
        ({"criterion": lambda channel_map: np.zeros(3)}, "scores, one per channel"),
        ({"criterion": lambda m: np.full(len(m), np.nan)}, "NaN"),
        ({"channel_multiple": 0}, "channel_multiple .* received 0"),
        ({"min_channels": 1.5}, r"min_channels .* received 1\.5"),
        ({"steps": 0}, "steps .* received 0"),
        ({"finetune": 3}, "finetune .* received 3"),
        ({"overrides": {"inner": 1.0}}, r"override of 'inner' .* received 1\.0"),
        ({"overrides": {"iner": 0.1}}, "no layer 'iner'.*such as 'inner'"),
        ({"overrides": {"relu": 0.1}}, "no layer 'relu'"),
        ({"overrides": {"stem": 0.1, "outer": 0.2}}, "share channels.*same override"),
        ({"overrides": {"inner": 0.1}, "leave_alone": ["inner"]}, "both"),
        ({"overrides": {"inner": 0.95}}, "'inner' asks for 8 .* at most 7"),
        ({"leave_alone": "inner"}, "list of layer names; received 'inner'"),
        ({"leave_alone": ["nothing"]}, "no layer 'nothing'"),
        ({"of": {"Conv2D": -1}}, "weight of 'Conv2D' .* received -1"),
        ({"of": {"Conv3D": 1}}, "'Conv3D'"),
        ({"of": {"ReLU": 1.0}}, "counts none of its layers"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    model = residual()
    before = model.count_params()
    with pytest.raises(ValueError, match=message) as caught:
        ptkeras.prune(model, **{"share": 0.5, **arguments})
    assert "\n" not in str(caught.value)
    assert model.count_params() == before


def test_a_target_out_of_reach_names_what_is_in_reach():
    model = residual()
    with pytest.raises(ValueError, match=r"share of the flops .* is 0\.\d+ at most") as caught:
        ptkeras.prune(model, 0.95, "flops", min_channels=4, steps=3)
    most = float(str(caught.value).split(" is ")[1].split()[0])
    report = ptkeras.prune(model, most, "flops", min_channels=4)
    assert report.macs[1] <= report.macs[0] * (1 - most)
    with pytest.raises(ValueError, match="at most"):
        ptkeras.prune(model, 0.1, "flops", min_channels=4)


# Channels by name.


def test_named_channels_go_and_what_is_tied_to_them():
    model = residual()
    kernel = keras.ops.convert_to_numpy(model.get_layer("inner").kernel.value)
    stem = keras.ops.convert_to_numpy(model.get_layer("stem").kernel.value)
    assert ptkeras.remove_channels(model, {"inner": [0, 3], "stem": (np.int64(7),)}) is model
    left = keras.ops.convert_to_numpy(model.get_layer("inner").kernel.value)
    np.testing.assert_array_equal(left, kernel[:, :, :7][..., [1, 2, 4, 5, 6, 7]])
    left = keras.ops.convert_to_numpy(model.get_layer("stem").kernel.value)
    np.testing.assert_array_equal(left, stem[..., :7])
    assert model.get_layer("outer").filters == 7


@pytest.mark.parametrize("network", NETWORKS)
def test_removing_named_channels_is_exact(network):
    model = network()
    layer = next(r.layer for r in trace(model).slices if r.role == "output")

    def keep(channel_map):
        made = next(
            r.channels for r in channel_map.slices if r.layer is layer and r.role == "output"
        )
        mask = everything(channel_map)
        mask[made[[0, 2]]] = False
        return mask

    reference = keras.models.clone_model(model)
    assert_exact(model, keep)
    ptkeras.remove_channels(reference, {layer.name: [0, 2]})
    assert reference.count_params() == model.count_params()


@pytest.mark.parametrize(
    "channels, message",
    [
        ({"iner": [0]}, "no layer 'iner'.*such as 'inner'"),
        ({"inner": [8]}, "'inner' .* no channel 8: .* from 0 to 7"),
        ({"inner": 3}, "must be a dict with a list of positions"),
        (["inner"], "must be a dict with a list of positions"),
        ({"inner": [-1]}, "no channel -1"),
        ({"inner": [0.0]}, r"no channel 0\.0"),
        ({"inner": [True]}, "no channel True"),
        ({"head": [2]}, "Channel 2 of layer 'head' may not go: it is part of an output"),
        ({"dense": range(12)}, "cannot do without"),
    ],
)
def test_channels_that_may_not_go_are_named(channels, message):
    model = residual()
    before = model.count_params()
    with pytest.raises(ValueError, match=message):
        ptkeras.remove_channels(model, channels)
    assert model.count_params() == before


def test_layer_normalisation_is_pruned_through_where_the_caller_says_so():
    inputs = keras.Input((6,))
    x = layers.LayerNormalization()(layers.Dense(8, name="a")(inputs))
    model = keras.Model(inputs, layers.Dense(2)(x))
    with pytest.raises(ValueError, match="at most"):
        ptkeras.prune(model, 0.5, "flops")
    ptkeras.prune(model, 0.25, exact=False)
    assert model.get_layer("a").units == 6
    ptkeras.remove_channels(model, {"a": [5]}, exact=False)
    assert model.get_layer("a").units == 5


def test_what_freezes_a_channel_is_named():
    inputs = keras.Input((6,))
    normed = layers.LayerNormalization(name="normed")(layers.Dense(4, name="a")(inputs))
    softmax = layers.Dense(4, activation="softmax", name="b")(inputs)

    class Unknown(layers.Layer):
        def call(self, x):
            if isinstance(x, keras.KerasTensor):
                raise TypeError("takes no symbolic tensors.")
            return keras.ops.flip(x, -1)

    unknown = Unknown(name="unknown")(layers.Dense(4, name="c")(inputs))
    x = layers.Concatenate()([normed, softmax, unknown])
    model = keras.Model(inputs, layers.Dense(2)(x))
    for name, reason in (
        ("a", r"'normed' \(a LayerNormalization\)"),
        ("b", r"needed by 'b' \(a Dense\), which would make something else of the others"),
        ("c", r"'unknown' \(a Unknown\), which no rule"),
    ):
        with pytest.warns(UserWarning), pytest.raises(ValueError, match=reason):
            ptkeras.remove_channels(model, {name: [1]})


def test_a_layer_name_that_several_nested_models_have_needs_its_path():
    inputs = keras.Input((4,))
    x = inputs
    for name in ("left", "right"):
        hidden = layers.Dense(6, name="hidden")(keras.Input((4,)))
        x = keras.Model(hidden._keras_history.operation.input, hidden, name=name)(x)
        x = layers.Dense(4)(x)
    model = keras.Model(inputs, x)
    with pytest.raises(ValueError, match=r"'left/hidden'.*'right/hidden'"):
        ptkeras.remove_channels(model, {"hidden": [0]})
    ptkeras.remove_channels(model, {"right/hidden": [0]})
    assert [m.get_layer("hidden").units for m in map(model.get_layer, ("left", "right"))] == [6, 5]


def test_what_a_generator_names_is_left_alone():
    model = residual()
    ptkeras.prune(model, 0.3, leave_alone=(name for name in ["inner"]))
    assert model.get_layer("inner").filters == 8


@pytest.mark.parametrize(
    ("argument", "value"), [("overrides", ["inner"]), ("leave_alone", None), ("leave_alone", "x")]
)
def test_names_of_layers_come_in_a_list_or_a_dict(argument, value):
    with pytest.raises(ValueError, match=f"The {argument} of ptkeras.prune must be"):
        ptkeras.prune(residual(), 0.3, **{argument: value})
