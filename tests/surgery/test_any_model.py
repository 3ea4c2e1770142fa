"""Layers of layers and a `call` of Python code are taken as graphs are, by all of the library."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import ptkeras
from ptkeras import cost, export, from_scratch, skipnet
from ptkeras.channels import trace
from ptkeras.channels.layer_names import find_layer, paths
from ptkeras.prunetrain.records import gain
from ptkeras.surgery.fresh import fresh
from ptkeras.surgery.reconfigure import copy_of
from tests.helpers.composites import NETS, Block, data, pair, subclassed

pytestmark = pytest.mark.thorough

OPENED = [name for name in NETS if name != "flat"]


@pytest.fixture(scope="module")
def nets():
    """The same network in all four makes, with the same weights, compiled."""
    keras.utils.set_random_seed(0)
    made = {name: make() for name, make in NETS.items()}
    weights = by_role(made["flat"])
    for model in made.values():
        for role, variable in roles(model).items():
            variable.assign(weights[role])
        model.compile("sgd", "sparse_categorical_crossentropy")
    return made


def roles(model):
    """The variables by what they are: the paths of the four makes are different."""
    found = {}
    for row in trace(model).slices:
        path = paths(model)[id(row.layer)].removeprefix("stage/").replace("/", "_")
        found[f"{path}/{row.variable.name}"] = row.variable
    return found


def by_role(model):
    return {role: ops.convert_to_numpy(v.value) for role, v in roles(model).items()}


@pytest.mark.parametrize("name", OPENED)
def test_the_cost_is_that_of_the_plain_graph(name, nets):
    model = nets[name]
    assert cost.summarise(model, 4) == cost.summarise(nets["flat"], 4)
    rows = {row.name: row for row in cost.layer_costs(model)}
    assert rows["stage/one/first"].macs == 8 * 8 * 9 * 8 * 12
    assert sum(row.params for row in rows.values()) == model.count_params()


@pytest.mark.parametrize("name", OPENED)
@pytest.mark.parametrize("criterion", ["l2", "batch_norm", "taylor", "kron_obd", "kron_obs"])
def test_criteria_and_reports_say_the_same(name, criterion, nets):
    x, y = data()
    makers = {"taylor": (x, y), "kron_obd": (x,), "kron_obs": (x,)}
    if criterion in makers:
        criterion = getattr(ptkeras.importance, criterion)(*makers[criterion])
    wanted, got = (
        ptkeras.prune(nets[n], 0.4, of="flops", criterion=criterion, dry_run=True)
        for n in ("flat", name)
    )
    assert [(r.channels, r.macs) for r in got.layers] == [
        (r.channels, r.macs) for r in wanted.layers
    ]
    assert got.params == wanted.params
    assert "stage/two/second" in {row.name for row in got.layers}


@pytest.mark.parametrize("name", OPENED)
def test_layers_go_by_their_paths(name, nets):
    model = nets[name]
    inner = find_layer(trace(model), "stage/two/first")
    small = ptkeras.remove_channels(model, {"stage/two/first": [0, 1]}, copy=True)
    assert inner.filters == 16
    assert find_layer(trace(small), "stage/two/first").filters == 14
    with pytest.raises(ValueError, match="several layers named 'first': say which of 'stage/one/f"):
        ptkeras.remove_channels(model, {"first": [0]})
    report = ptkeras.prune(
        model, 0, copy=True, leave_alone=["stage/one"], overrides={"stage/two/first": 0.5}
    )
    channels = {row.name: row.channels for row in report.layers}
    assert channels["stage/one/first"] == (12, 12) and channels["stage/two/first"] == (16, 8)


@pytest.mark.parametrize("name", OPENED)
def test_magnitude_pruning_masks_the_kernels_inside(name, nets):
    x, y = data()
    model = copy_of(nets[name])
    model.compile("adam", "sparse_categorical_crossentropy")
    report = ptkeras.magnitude.prune(model, 0.5)
    assert len(report.kernels) == 6
    model.fit(x, y, verbose=0)
    kernels = [v for v in model.trainable_variables if v.name == "kernel"]
    zeros = [float(np.mean(ops.convert_to_numpy(v.value) == 0)) for v in kernels]
    assert len(zeros) == 6 and all(abs(share - 0.5) < 0.05 for share in zeros)
    ptkeras.magnitude.strip(model)


@pytest.mark.parametrize("name", OPENED)
def test_gates_are_put_on_the_blocks_inside(name, nets):
    x, _ = data(4)
    network = skipnet.add_gates(nets[name])
    assert len(network.switches) == 2
    wanted = nets[name].predict(x, verbose=0)
    np.testing.assert_allclose(network.predict(x, verbose=0), wanted, atol=1e-6)


@pytest.mark.parametrize("name", OPENED)
def test_the_fisher_information_is_that_of_the_plain_graph(name, nets):
    x, _ = data(8)
    wanted, got = (ptkeras.fisher.factors(nets[n], x) for n in ("flat", name))
    for a, b in zip(wanted, got, strict=True):
        assert a.positions == b.positions
        np.testing.assert_allclose(a.inputs.matrix(), b.inputs.matrix(), rtol=1e-4, atol=1e-6)


def test_eigendamage_prunes_the_functional_form(nets):
    x, _ = data(8)
    with pytest.raises(ValueError, match=r"prune the Functional model ptkeras\.as_functional"):
        ptkeras.eigendamage.prune(nets["subclassed"], x, 0.5)
    only = keras.Sequential([keras.Input((8, 8, 3)), Block(), layers.GlobalAveragePooling2D()])
    with pytest.raises(ValueError, match=r"prune the Functional model ptkeras\.as_functional"):
        ptkeras.eigendamage.prune(only, x, 0.5, loss="mse")
    functional = ptkeras.as_functional(copy_of(nets["subclassed"]))
    before, after = ptkeras.eigendamage.prune(
        functional, x, 0.5, loss="sparse_categorical_crossentropy"
    ).params
    assert after < before


def test_a_search_of_gates_draws_networks_that_train(nets):
    x, y = data()
    found = from_scratch.learn_gates(
        nets["subclassed"], x, y, validation_data=(x, y), epochs=1, verbose=0
    )
    free = np.isfinite(found.gates)
    keep = ~free | (np.arange(len(free)) % 2 > 0)
    small = fresh(found.channel_map, keep)
    assert type(small) is type(nets["subclassed"])
    assert {v.path for v in small.trainable_variables} == {
        v.path for v in nets["subclassed"].trainable_variables
    }
    small.compile("sgd", "sparse_categorical_crossentropy")
    before = small.get_weights()
    small.fit(x, y, verbose=0)
    assert any(np.abs(a - b).max() > 0 for a, b in zip(before, small.get_weights(), strict=True))


@pytest.mark.tensorflow
@pytest.mark.parametrize("name", ["composite", "subclassed"])
def test_what_is_exported_answers_as_the_model(name, nets, tmp_path):
    export.to_onnx(nets[name], tmp_path / "a.onnx")
    export.to_saved_model(nets[name], tmp_path / "a")


@pytest.mark.tensorflow
def test_inputs_and_outputs_by_name(tmp_path):
    keras.utils.set_random_seed(0)
    model = pair()
    artifact = export.to_onnx(model, tmp_path / "a.onnx")
    assert artifact.verification.passed
    rng = np.random.default_rng(0)
    x = {n: rng.normal(size=(8, 8, 8, 3)).astype("float32") for n in ("left", "right")}
    y = {"a": rng.normal(size=(8, 2)), "b": rng.normal(size=(8, 3))}
    model.compile("sgd", {"a": "mse", "b": "mse"})
    flops = cost.inference_flops(model)
    for criterion in (ptkeras.importance.taylor(x, y), ptkeras.importance.kron_obd(x)):
        report = ptkeras.prune(model, 0.5, of="flops", criterion=criterion, copy=True)
        assert cost.inference_flops(report.model) <= flops / 2
    assert cost.inference_flops(model) == flops


def test_two_layers_of_one_name_in_nested_models_weigh_by_themselves():
    def inner(width, positions):
        x = keras.Input((positions, 4))
        y = layers.Dense(width, name="dense")(x)
        return keras.Model(x, layers.Dense(4, name="out")(y))

    inputs = keras.Input((8, 4))
    x = inner(2, 8)(inputs)
    x = inner(20, 8)(x)
    model = keras.Model(inputs, x)
    channel_map = trace(model)
    keep = np.ones(len(channel_map), bool)
    wide = next(r for r in channel_map.slices if r.role == "output" and len(r.channels) == 20)
    keep[wide.channels[:10]] = False
    before = cost.macs(model)
    share = gain(channel_map, keep, {})
    ptkeras.reconfigure(model, keep)
    assert share == pytest.approx(1 - cost.macs(model) / before)


class Token(layers.Layer):
    """Has a variable of its own, which its code reads."""

    def build(self, shape):
        self.token = self.add_weight(shape=(1, 1, shape[-1]), initializer="normal", name="token")
        self.weight = self.add_weight(shape=(shape[-1], 6), name="weight")

    def call(self, x):
        return ops.matmul(x + self.token, self.weight)


def test_variables_that_code_reads_are_counted_and_drawn():
    inputs = keras.Input((5, 3))
    x = Token(name="token")(layers.Dense(4, name="first")(inputs))
    model = keras.Model(inputs, layers.Dense(2, name="last")(x))
    assert cost.params(model) == sum(row.params for row in cost.layer_costs(model))
    assert cost.macs(model) == 5 * (3 * 4 + 4 * 6 + 6 * 2)
    channel_map = trace(model)
    keep = np.ones(len(channel_map), bool)
    keep[channel_map.produced()["first"][:2]] = False
    small = fresh(channel_map, keep)
    token, old = small.get_layer("token"), model.get_layer("token")
    assert token.token.shape == (1, 1, 2) and token.weight.shape == (2, 6)
    drawn, former = (ops.convert_to_numpy(v.value) for v in (token.token, old.token))
    assert np.abs(drawn - former[..., 2:]).min() > 0


def test_subclassed_models_say_what_they_need():
    model = type(subclassed())()
    with pytest.raises(ValueError, match="does not say what it is called on"):
        cost.macs(model)
    with pytest.raises(ValueError, match="Expected a Keras model, received 3"):
        ptkeras.magnitude.prune(3, 0.5)
    with pytest.raises(ValueError, match="Expected a Keras model, received 3"):
        cost.summarise(3)


def test_layers_of_the_same_path_are_told_apart():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, Twins(name="twins")(inputs))
    assert {"twins/same", "twins/same_1"} <= set(paths(model).values())


class Twins(layers.Layer):
    """Two layers of one name."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.pair = [layers.Dense(4, name="same"), layers.Dense(3, name="same")]

    def build(self, shape):
        for layer in self.pair:
            layer.build(shape)

    def call(self, x):
        return self.pair[1](self.pair[0](x))
