import keras
import numpy as np
import pytest
from keras import ops

from ptkeras import channels, cost, models, skipnet, surgery
from ptkeras.channels.graph import functional_of
from tests.helpers.skipnet_networks import (
    images,
    nested,
    series,
    single_pixels,
    small,
    undecided,
    vectors,
)

pytestmark = [pytest.mark.compiles_much, pytest.mark.thorough]

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
LABELS = np.arange(32) % 4


def compiled(network, **options):
    network.compile(keras.optimizers.SGD(0.05), LOSS, metrics=["accuracy"], **options)
    return network


def names_of(model):
    return [layer.name for layer in model.layers]


@pytest.mark.parametrize("gate", ["ffgate1", "ffgate2", "rnn"])
@pytest.mark.parametrize(
    ("build", "count"),
    [
        (lambda: models.build("resnet20", (8, 8, 1), 4), 7),
        (small, 3),
        (nested, 2),
        (vectors, 2),
        (series, 1),
        (single_pixels, 1),
    ],
)
def test_with_all_gates_open_the_network_is_the_original(build, count, gate):
    model = build()
    network = skipnet.add_gates(model, gate)
    assert len(network.switches) == count
    x = np.random.default_rng(0).normal(size=(5, *model.input_shape[1:])).astype("float32")
    wanted = ops.convert_to_numpy(model(x))
    np.testing.assert_array_equal(network(x), wanted)
    network.open_gates()
    for layer in network.layers:
        if layer.name.endswith("logit"):
            layer.bias.assign([-9.0])
    np.testing.assert_array_equal(network(x), wanted)
    network.pretrain()
    assert not np.array_equal(network(x), wanted)
    np.testing.assert_array_equal(skipnet.remove_gates(network)(x), wanted)


@pytest.fixture
def policy():
    before = keras.config.dtype_policy()
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy(before)


@pytest.mark.parametrize("gate", ["ffgate1", "rnn"])
@pytest.mark.parametrize("built", ["mixed_bfloat16", "float32"])
def test_the_policy_of_the_network_holds_and_not_that_of_the_process(built, gate, policy):
    policy(built)
    image = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(4, 3, padding="same")(image)
    x = x + keras.layers.Conv2D(4, 3, padding="same")(x)
    x = keras.layers.Add()([x, keras.layers.Conv2D(4, 3, padding="same")(x)])
    model = keras.Model(image, keras.layers.Dense(4)(keras.layers.GlobalAveragePooling2D()(x)))
    wanted = model(images(9))
    policy("float32" if built == "mixed_bfloat16" else "mixed_bfloat16")
    network = skipnet.add_gates(model, gate)
    for each in (network, skipnet.skipping(network), skipnet.plain(network)):
        answer = each(images(9))
        assert answer.dtype == wanted.dtype
        np.testing.assert_array_equal(
            *(ops.convert_to_numpy(ops.cast(y, "float32")) for y in (answer, wanted))
        )
    gates = [layer for layer in network.layers if "gate_" in layer.name and layer.weights]
    assert gates[0].dtype_policy.name == built
    assert {v.dtype for layer in gates for v in layer.weights} == {"float32"}
    policy(built)


def test_with_open_gates_a_step_is_that_of_the_original():
    model = compiled(small())
    network = compiled(skipnet.add_gates(model, "ffgate1"))
    network.open_gates()
    gates = network.get_layer("block0_add_gate_logit").get_weights()
    losses = [each.train_on_batch(images(32), LABELS)[0] for each in (model, network)]
    assert losses[0] == losses[1]
    for layer in model.layers:  # up to the order in which gradients are summed
        for a, b in zip(
            layer.get_weights(), network.get_layer(layer.name).get_weights(), strict=True
        ):
            np.testing.assert_allclose(a, b, atol=1e-6)
    for a, b in zip(gates, network.get_layer("block0_add_gate_logit").get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_model_that_gets_gates_is_left_alone():
    model = small()
    before = [layer.name for layer in model.layers], model.get_weights()
    network = compiled(skipnet.add_gates(model))
    network.fit(images(32), LABELS, verbose=0)
    assert before[0] == [layer.name for layer in model.layers]
    for a, b in zip(before[1], model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("MobileNetV2", 10),
        pytest.param("ResNet50", 12, marks=pytest.mark.slow),
        pytest.param("ResNet50V2", 9, marks=pytest.mark.slow),
        pytest.param("Xception", 8, marks=pytest.mark.slow),
    ],
)
def test_networks_of_keras_applications_get_gates(name, count):
    model = getattr(keras.applications, name)(weights=None, input_shape=(71, 71, 3), classes=3)
    network = skipnet.add_gates(model)
    assert len(network.switches) == count
    x = np.random.default_rng(0).normal(size=(2, 71, 71, 3)).astype("float32")
    np.testing.assert_array_equal(network(x), model(x))


def test_outputs_keep_their_names():
    image = keras.Input((8, 8, 1))
    outer = keras.Model(image, {"a": small(1)(image)})
    network = skipnet.add_gates(outer, "ffgate2")
    assert network.output_names == functional_of(outer).output_names == ["small"]
    network.compile("sgd", {"a": LOSS})
    network.fit(images(8), {"a": LABELS[:8]}, verbose=0)
    again = skipnet.remove_gates(network)
    assert again.output_names == ["small"]
    start = keras.Input((8, 8, 4))
    branch = keras.layers.Conv2D(4, 3, padding="same")(start)
    network = skipnet.add_gates(keras.Model(start, keras.layers.Add(name="out")([start, branch])))
    network.get_layer("gates_logit").bias.assign([-9.0])
    settled = skipnet.settle(network, images(4, shape=(8, 8, 4)))
    assert network.output_names == settled.output_names == ["out"]


def test_a_projection_and_a_block_around_a_block_get_no_gate():
    x = start = keras.Input((8, 8, 4))
    y = keras.layers.Conv2D(4, 3, padding="same")(x)
    z = keras.layers.Conv2D(4, 3, padding="same")(y)
    y = keras.layers.Add(name="inner")([y, z])
    x = keras.layers.Add(name="outer")([x, y])
    projected = keras.layers.Conv2D(6, 1)(x)
    branch = keras.layers.Conv2D(6, 3, padding="same")(x)
    x = keras.layers.Add(name="projection")([projected, branch])
    network = skipnet.add_gates(keras.Model(start, x))
    assert [switch.name for switch in network.switches] == ["inner_switch"]


def test_a_branch_that_others_read_gets_no_gate():
    x = start = keras.Input((8, 8, 4))
    y = keras.layers.Conv2D(4, 3, padding="same")(x)
    total = keras.layers.Add()([x, y])
    with pytest.raises(ValueError, match="no residual block that could be skipped"):
        skipnet.add_gates(keras.Model(start, [total, y]))


def test_what_cannot_get_gates_is_told_of():
    with pytest.raises(ValueError, match="'vgg8' has no residual block"):
        skipnet.add_gates(models.build("vgg8", (8, 8, 1), 4))
    with pytest.raises(ValueError, match=r"ffgate1, ffgate2, rnn; received 'lstm'"):
        skipnet.add_gates(small(), "lstm")
    with pytest.raises(ValueError, match="'small' has no gates"):
        skipnet.skipping(small())


@pytest.mark.parametrize("gate", ["ffgate1", "ffgate2", "rnn"])
def test_gates_of_gates_are_refused(gate):
    with pytest.raises(ValueError, match="'small' has gates already"):
        skipnet.add_gates(skipnet.add_gates(small(1)), gate)


@pytest.mark.parametrize("gate", ["ffgate1", "rnn"])
def test_layers_may_have_the_names_that_gates_would_have(gate):
    bare = skipnet.add_gates(small(1), gate)
    taken = [layer.name for layer in bare.layers if layer.name not in names_of(small(1))]
    assert {"gates_lstm", "block0_add_gate_1_conv"} & set(taken)
    model = small(1)
    x = model.outputs[0]
    for name in taken:
        x = keras.layers.Identity(name=name)(x)
    network = skipnet.add_gates(keras.Model(model.inputs, x), gate)
    assert len(network.switches) == 1 and network.outputs[0]._keras_history.operation.name == name
    assert {*names_of(network)} >= {*taken}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"alpha": -1}, "from 0"),
        ({"alpha": "0.1"}, "received '0.1'"),
        ({"gamma": 2}, "0 to 1"),
        ({"rl_weight": 0}, "0"),
    ],
)
def test_rewards_that_make_no_sense(wrong, says):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} of SkipNet must be .*{says}"):
        skipnet.add_gates(small()).reinforce(**wrong)


def test_hard_gates_decide_and_let_soft_gradients_through():
    switch = skipnet.Switch()
    logits = np.array([[-3.0], [-0.01], [0.0], [0.02], [5.0]], "float32")
    hard = ops.convert_to_numpy(switch(logits, training=True))
    np.testing.assert_array_equal(hard, [[0], [0], [0], [1], [1]])
    np.testing.assert_array_equal(switch(logits, training=False), hard)
    switch.mode = "soft"
    soft = 1 / (1 + np.exp(-logits))
    np.testing.assert_allclose(switch(logits, training=True), soft, rtol=1e-6)
    np.testing.assert_array_equal(switch(logits, training=False), hard)


def test_sampled_gates_run_branches_as_often_as_they_say():
    switch = skipnet.Switch()
    switch.mode = "sample"
    actions = ops.convert_to_numpy(switch(np.full((4000, 1), 1.0, "float32"), training=True))
    assert set(actions.ravel()) == {0, 1}
    assert actions.mean() == pytest.approx(1 / (1 + np.exp(-1)), abs=0.03)


@pytest.mark.parametrize("gates", ["hard", "soft"])
@pytest.mark.parametrize("gate", ["ffgate1", "rnn"])
def test_pre_training_reaches_the_gates(gate, gates):
    network = compiled(skipnet.add_gates(small(), gate))
    network.pretrain(gates)
    before = {v.path: ops.convert_to_numpy(v) for v in network.trainable_variables}
    network.fit(images(32), LABELS, epochs=2, verbose=0)
    for variable in network.trainable_variables:
        if "logit" in variable.path:
            assert not np.array_equal(before[variable.path], variable), variable.path


def test_a_large_reward_closes_the_gates_in_fit():
    network = compiled(skipnet.add_gates(small()))
    network.reinforce(alpha=30, rl_weight=1)
    network.fit(images(32), LABELS, batch_size=8, epochs=25, verbose=0)
    assert skipnet.measure(network, images(32), LABELS).blocks_run < 0.2


@pytest.mark.parametrize("weights", [None, np.array([1.0, 0.0, 2.5], "float32")])
def test_the_loss_comes_from_the_right_images(weights, monkeypatch):
    """Rewards are of each image's own loss, and count as the image does in `fit`."""
    network = compiled(skipnet.add_gates(small(1)), run_eagerly=True)
    network.reinforce(0.3, 1.0, 2.0)
    random = np.random.default_rng(0)
    y, scores = np.array([0, 1, 2]), random.normal(size=(3, 4)).astype("float32")
    logits, actions = random.normal(size=(3, 1)).astype("float32"), np.float32([[1], [0], [1]])
    monkeypatch.setattr(skipnet.Switch, "taken", lambda switch: (logits, actions))
    got = network.compute_loss(images(3), y, ops.convert_to_tensor(scores), weights, training=True)
    wanted = []
    for i in range(3):
        one = slice(i, i + 1)
        loss = LOSS(y[one], scores[one])
        policy = skipnet.policy_loss(logits[one], actions[one], loss[None], 0.3, 1.0)
        wanted.append(float(loss + 2 * policy) * (1 if weights is None else weights[i]))
    assert float(got) == pytest.approx(np.mean(wanted), rel=1e-5)


def test_each_position_of_an_image_counts_as_it_does_in_fit(monkeypatch):
    x = start = keras.Input((8, 8, 4))
    x = keras.layers.Add()([x, keras.layers.Conv2D(4, 3, padding="same")(x)])
    network = compiled(skipnet.add_gates(keras.Model(start, x)), run_eagerly=True)
    network.reinforce()
    random = np.random.default_rng(0)
    y, weights = random.integers(0, 4, (2, 8, 8)), random.integers(0, 2, (2, 8, 8))
    weights[1] = 0
    scores = ops.convert_to_tensor(random.normal(size=(2, 8, 8, 4)).astype("float32"))
    losses, mean = network._loss_of_each(y, scores, weights)
    np.testing.assert_allclose(mean, weights.mean(axis=(1, 2)), rtol=1e-6)
    of_all = ops.mean(losses * mean)
    assert float(of_all) == pytest.approx(float(LOSS(y, scores, weights)), rel=1e-5)


def test_images_without_weight_teach_the_gates_nothing():
    network = compiled(skipnet.add_gates(small(1)))
    network.reinforce(alpha=30, rl_weight=1)
    before = network.get_layer("gates_logit").get_weights()
    network.fit(images(32), LABELS, class_weight=dict.fromkeys(range(4), 0.0), verbose=0)
    for old, new in zip(before, network.get_layer("gates_logit").get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_reinforcing_needs_one_loss():
    network = skipnet.add_gates(small())
    network.compile("sgd", loss=[LOSS], run_eagerly=True)
    network.reinforce()
    with pytest.raises(ValueError, match="must be compiled with one loss"):
        network.fit(images(8), LABELS[:8], verbose=0)


def test_reinforcing_needs_a_loss_of_each_image():
    network = skipnet.add_gates(small())
    network.compile("sgd", lambda y, scores: ops.mean(ops.square(y - scores)))
    network.reinforce()
    with pytest.raises(ValueError, match="'small' must be a number for each image"):
        network.fit(images(8), np.zeros((8, 4)), verbose=0)


def test_files_hold_the_network_with_its_gates(tmp_path):
    network = undecided(small(), "rnn")
    network.save(tmp_path / "gated.keras")
    loaded = keras.models.load_model(tmp_path / "gated.keras")
    assert isinstance(loaded, skipnet.SkipNet) and len(loaded.switches) == 3
    np.testing.assert_array_equal(network(images(9)), loaded(images(9)))
    compiled(loaded).reinforce()
    loaded.fit(images(32), LABELS, verbose=0)


def test_gated_networks_are_pruned_as_others():
    network = undecided(small())
    channel_map = channels.trace(network)
    prunable = {
        row.layer.name for row in channel_map.slices if channel_map.prunable[row.channels].any()
    }
    assert {"stem", "block0_conv1", "block2_conv2"} <= prunable
    keep = np.ones(len(channel_map), bool)
    rows = [row for row in channel_map.slices if row.layer.name == "block1_conv1"]
    gone = next(row for row in rows if row.role == "output").channels[2:5]
    keep[gone] = False
    for row in channel_map.slices:
        values = ops.convert_to_numpy(row.variable).copy()
        np.moveaxis(values, row.axis, 0)[np.isin(row.channels, gone)] = 0
        row.variable.assign(values)
    before = ops.convert_to_numpy(network(images(9)))
    flops = cost.inference_flops(network)
    surgery.reconfigure(network, keep)
    assert isinstance(network, skipnet.SkipNet) and len(network.switches) == 3
    assert cost.inference_flops(network) < flops
    np.testing.assert_allclose(network(images(9)), before, atol=1e-5)
    compiled(network).reinforce()
    network.fit(images(32), LABELS, verbose=0)
