"""Pruning in the eigenbasis, of networks that are trained."""

import subprocess
import sys
import tracemalloc

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers, losses

import ptkeras
from ptkeras import cost, eigendamage, export, lasso
from ptkeras.channels import trace
from ptkeras.data import digits
from ptkeras.eigendamage.bottleneck import Form
from ptkeras.eigendamage.pruning import Importances, _in_fewer, _survivors
from ptkeras.fisher.basis import BLOCK, Basis
from tests.exactness import assert_same, inputs_for, outputs_of, randomise

pytestmark = [pytest.mark.compiles_much, pytest.mark.thorough]

LOGITS = losses.SparseCategoricalCrossentropy(from_logits=True)


def residual():
    inputs = keras.Input((8, 8, 1), name="image")
    x = layers.Conv2D(16, 3, padding="same", name="stem")(inputs)
    for i in range(2):
        y = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
        y = layers.Conv2D(24, 3, padding="same", use_bias=False, name=f"block{i}_a")(y)
        y = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(y))
        y = layers.Conv2D(16, 3, padding="same", use_bias=False, name=f"block{i}_b")(y)
        x = layers.Add()([x, y])
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(x))
    return keras.Model(inputs, layers.Dense(10, name="logits")(x), name="residual")


@pytest.fixture(scope="module")
def images():
    found = digits.load()
    return np.float32(found.train_images) / 16, found.train_labels


@pytest.fixture(scope="module")
def trained(images, tmp_path_factory):
    keras.utils.set_random_seed(0)
    model = residual()
    model.compile(keras.optimizers.Adam(3e-3), LOGITS, metrics=["accuracy"])
    model.fit(*images, epochs=10, batch_size=64, verbose=0)
    path = tmp_path_factory.mktemp("models") / "trained.keras"
    model.save(path)
    return path


@pytest.fixture
def model(trained):
    return keras.models.load_model(trained)


def loss_of(model, images):
    return model.evaluate(*images, batch_size=512, verbose=0)[0]


@pytest.mark.slow
def test_the_least_important_directions_cost_less_than_the_smallest_filters(model, trained, images):
    dense = loss_of(model, images)
    assert dense < 0.2
    report = eigendamage.prune(model, images[0][:1000], 0.3, batch_size=250)
    by_norm = {}
    for criterion in ("l1", "l2"):
        other = keras.models.load_model(trained)
        # As many parameters as are left, or more: the target is met as nearly as channels allow.
        share = 1 - model.count_params() / other.count_params()
        while True:
            keep = ptkeras.prune(other, share, of="params", criterion=criterion, dry_run=True)
            if keep.params[1] >= model.count_params():
                break
            share -= 0.01
        ptkeras.reconfigure(other, keep.keep)
        assert other.count_params() >= model.count_params()
        by_norm[criterion] = loss_of(other, images)
    assert report.params[1] < 0.8 * report.params[0]
    assert loss_of(model, images) < min(by_norm.values()), by_norm
    assert loss_of(model, images) - dense < 0.5 * (min(by_norm.values()) - dense)


def test_the_report_is_of_what_has_become_of_the_model(model, images):
    before = model.count_params(), cost.macs(model)
    report = eigendamage.prune(model, images[0][:200], 0.5, batch_size=200)
    assert report.params == (before[0], model.count_params())
    assert report.macs == (before[1], cost.macs(model))
    gone, size = np.sum([side for row in report.layers for side in row.directions], axis=0)
    assert gone == int(0.5 * size)
    text = str(report)
    assert "block0_a" in text and f"{model.count_params():,}" in text
    for row in report.layers:
        assert row.macs[1] <= row.macs[0]
        if len(row.widths[1]) == 2:
            assert row.widths[0] == row.widths[1]


def test_iterations_prune_the_core_and_keep_three_layers(model, images):
    x, y = images
    sizes = []
    for seed in range(3):
        report = eigendamage.prune(model, x[:200], 0.3, ratio_limit=0.5, batch_size=200, seed=seed)
        if seed == 0:
            model.fit(x[:200], y[:200], verbose=0)
        sizes.append(model.count_params())
        convolutions = [n for n in (layer.name for layer in model.layers) if "block0_a" in n]
        assert convolutions in (
            ["block0_a"],
            ["block0_a_core", "block0_a"],
            ["block0_a_rotation_in", "block0_a"],
            ["block0_a_rotation_in", "block0_a_core", "block0_a"],
        )
    assert sizes == sorted(sizes, reverse=True) and sizes[-1] < sizes[0]
    assert [row.name for row in report.layers] == [
        "stem",
        "block0_a",
        "block0_b",
        "block1_a",
        "block1_b",
        "logits",
    ]


def test_nothing_goes_at_a_ratio_of_zero(model, images):
    before = model.layers
    report = eigendamage.prune(model, images[0][:50], 0.0)
    assert model.layers == before
    assert report.macs[0] == report.macs[1]


def test_directions_that_nothing_uses_go_without_a_trace(images):
    """A network whose input never leaves a plane: what is off the plane may go, and goes."""
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(64, 3)) @ rng.normal(size=(3, 20))).astype("float32")
    inputs = keras.Input((20,))
    y = layers.Dense(30, activation="relu", name="hidden")(inputs)
    model = keras.Model(inputs, layers.Dense(4, name="logits")(y))
    randomise(model)
    model.compile("sgd", LOGITS)
    before = outputs_of(model, x)
    report = eigendamage.prune(model, x, 17 / 84, batch_size=64)  # 17 of 20 + 30 + 30 + 4
    assert report.layers[0].directions[0] == (17, 20)
    assert report.layers[0].widths[1] == (20, 3, 30)
    assert_same(before, outputs_of(model, x), 1e-4)


def test_a_pruned_model_loads_and_trains_without_ptkeras(model, images, tmp_path):
    eigendamage.prune(model, images[0][:200], 0.5, batch_size=200)
    model.save(tmp_path / "small.keras")
    np.savez(tmp_path / "x.npz", x=images[0][:8], y=model.predict(images[0][:8], verbose=0))
    program = (
        "import sys, keras, numpy as np\n"
        "model = keras.models.load_model('small.keras')\n"
        "data = np.load('x.npz')\n"
        "found = model.predict(data['x'], verbose=0)\n"
        "np.testing.assert_allclose(found, data['y'], atol=1e-4)\n"
        "model.fit(data['x'], np.zeros(8), verbose=0)\n"
        "assert 'ptkeras' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path)


@pytest.mark.tensorflow
def test_a_pruned_model_runs_in_onnxruntime(model, images, tmp_path):
    import onnxruntime

    eigendamage.prune(model, images[0][:200], 0.5, batch_size=200)
    artifact = export.to_onnx(model, tmp_path / "small.onnx")
    assert artifact.verification.passed
    session = onnxruntime.InferenceSession(str(tmp_path / "small.onnx"))
    [answer] = session.run(None, {session.get_inputs()[0].name: images[0][:5]})
    np.testing.assert_allclose(answer, model(images[0][:5], training=False), atol=1e-4)


def test_layers_can_be_left_alone(model, images):
    alone = ["block0_a", "logits"]
    report = eigendamage.prune(
        model, images[0][:100], 0.6, ratio_limit=0.8, leave_alone=alone, batch_size=100
    )
    assert not {row.name for row in report.layers} & set(alone)
    assert model.get_layer("block0_a").filters == 24
    names = {layer.name for layer in model.layers}
    assert "block0_a_core" not in names and "block1_a_core" in names


def test_inputs_outputs_and_nested_models():
    inputs = {name: keras.Input((8, 8, 12), name=name) for name in ("a", "b")}
    block = keras.Sequential(
        [keras.Input((8, 8, 12)), layers.Conv2D(16, 3, name="own"), layers.ReLU()], name="block"
    )
    x = layers.Add()([block(inputs["a"]), block(inputs["b"])])
    x = layers.GlobalAveragePooling2D()(x)
    outputs = {"p": layers.Dense(6, name="p")(x), "q": layers.Dense(5, name="q")(x)}
    model = keras.Model(inputs, outputs)
    randomise(model)
    model.compile("adam", {"p": LOGITS, "q": "mse"})
    x = inputs_for(model, 16)
    report = eigendamage.prune(model, x, 0.6)
    assert {row.name for row in report.layers} == {"block/own", "p", "q"}
    assert report.macs == (report.macs[0], cost.macs(model))
    assert report.macs[1] < report.macs[0]
    y = {"p": np.zeros(16), "q": np.zeros((16, 5))}
    model.fit(x, y, verbose=0)


def test_a_model_of_open_sizes():
    inputs = keras.Input((None, None, 3))
    x = layers.Conv2D(16, 3, name="conv")(inputs)
    x = layers.Conv2D(16, 3, padding="same")(layers.ReLU()(x))
    model = keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))
    randomise(model)
    model.compile("sgd", LOGITS)
    report = eigendamage.prune(model, np.ones((4, 12, 10, 3), "float32"), 0.8)
    assert report.macs == (report.macs[0], cost.macs(model, (12, 10, 3)))


@settings(max_examples=50)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=4),
    ratio=st.floats(0, 0.99),
    limit=st.floats(0.01, 0.99),
    seed=st.integers(0, 99),
)
def test_survivors_are_as_many_as_the_ratio_and_its_limit_leave(sizes, ratio, limit, seed):
    rng = np.random.default_rng(seed)
    importance = [tuple(rng.random(n) for n in each) for each in sizes]
    stay = _survivors(importance, ratio, limit)
    count = sum(map(sum, sizes))
    assert sum(map(sum, stay)) >= count - int(ratio * count)
    for sides, left in zip(sizes, stay, strict=True):
        for size, n in zip(sides, left, strict=True):
            assert 1 <= n <= size and n >= size * (1 - limit) - 1e-6
    if all(
        n > size * (1 - limit) + 1
        for s, k in zip(sizes, stay, strict=True)
        for size, n in zip(s, k, strict=True)
    ):
        assert sum(map(sum, stay)) == count - int(ratio * count)


@pytest.mark.parametrize(
    "options, says",
    [
        ({"ratio": 1}, "ratio of EigenDamage must be a number from 0 and under 1; received 1"),
        ({"ratio": [0.5, 0.5]}, r"from 0 and under 1; received \[0.5, 0.5\]"),
        ({"ratio_limit": 0}, "ratio_limit .* over 0 and under 1; received 0"),
        ({"leave_alone": ["blok0_a"]}, "no layer 'blok0_a' .*did you mean 'block0_a'"),
        ({"leave_alone": "stem"}, "must be a list of layer names; received 'stem'"),
        ({"loss": "hinge"}, "'hinge' is not known"),
    ],
)
def test_what_cannot_be_followed_is_said(options, says):
    model = residual()
    model.compile("sgd", LOGITS)
    before = [w.copy() for w in model.get_weights()]
    with pytest.raises(ValueError, match=says):
        eigendamage.prune(model, np.zeros((4, 8, 8, 1)), **{"ratio": 0.5} | options)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_rotations_that_would_cost_more_than_they_save_are_not_computed():
    """A dense layer that reads 4,096 numbers: its rotation in would take 90 MB."""
    size, width = 4096, 16
    rng = np.random.default_rng(0)
    form = Form(None, rng.normal(size=(1, size, width)), None)
    blocks = [np.eye(BLOCK)] * (size // BLOCK)
    bases = (Basis(blocks, np.ones(size)), Basis([np.eye(width)], np.ones(width)))
    damage = (rng.random(size), rng.random(width))
    tracemalloc.start()
    try:
        new = _in_fewer(Importances(None, form, bases, damage, (1.0, 1.0)), (2800, 10))
        assert tracemalloc.get_traced_memory()[1] < 10e6
    finally:
        tracemalloc.stop()
    assert new.widths == (size, 10, width)


def test_a_model_without_such_layers_is_told_of():
    inputs = keras.Input((8, 8, 4))
    model = keras.Model(inputs, layers.DepthwiseConv2D(3)(inputs))
    with pytest.raises(ValueError, match="no layer that EigenDamage could prune"):
        eigendamage.prune(model, np.zeros((4, 8, 8, 4)), 0.5, loss="mse")


def test_masks_are_refused_before_any_work():
    model = residual()
    model.compile("sgd", LOGITS)
    ptkeras.magnitude.prune(model, 0.5)
    with pytest.raises(ValueError, match="MagnitudePruning"):
        eigendamage.prune(model, np.zeros((4, 8, 8, 1)), 0.5)


def test_the_lasso_of_prunetrain_is_refused():
    model = residual()
    model.compile("sgd", LOGITS)
    strength = keras.Variable(1.0, trainable=False)
    lasso.attach(trace(model), strength)
    with pytest.raises(ValueError, match="PruneTrain has its lasso on"):
        eigendamage.prune(model, np.zeros((4, 8, 8, 1)), 0.5)
    lasso.detach(model)
    eigendamage.prune(model, np.zeros((4, 8, 8, 1)), 0.5)
