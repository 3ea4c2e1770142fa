import subprocess
import sys

import hypothesis
import hypothesis.strategies as st
import keras
import numpy as np
import pytest
from keras import layers

from ptkeras import reconfigure
from ptkeras.channels import trace
from ptkeras.surgery.constants import DeadEndError
from tests.exactness import (
    TRIES_FEW,
    assert_exact,
    assert_same,
    inputs_for,
    outputs_of,
    random_keep,
    randomise,
    zero,
)


def conv_net(classes=5):
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, padding="same", name="stem")(inputs)
    x = layers.BatchNormalization()(x)
    x = layers.ReLU()(x)
    y = layers.Conv2D(6, 3, padding="same", groups=2)(x)
    y = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2)(y)
    y = layers.Conv2D(8, 1, name="last_of_branch")(y)
    x = layers.Add()([x, y])
    x = layers.SeparableConv2D(10, 3)(x)
    x = layers.Conv2DTranspose(7, 3, activation="relu")(x)
    x = layers.Flatten()(x)
    return keras.Model(inputs, layers.Dense(classes, activation="softmax")(x))


def residual_net():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, padding="same", use_bias=False)(inputs)
    for block in range(2):
        y = layers.BatchNormalization(name=f"bn{block}")(x)
        y = layers.ReLU()(y)
        y = layers.Conv2D(6, 3, padding="same", name=f"conv{block}_1")(y)
        y = layers.BatchNormalization()(y)
        y = layers.ReLU()(y)
        y = layers.Conv2D(8, 3, padding="same", name=f"conv{block}_2")(y)
        y = layers.BatchNormalization(name=f"bn{block}_2")(y)
        x = layers.Add(name=f"add{block}")([x, y])
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(4, name="head")(x))


@pytest.mark.parametrize("seed", range(4))
def test_removing_zeros_changes_no_output(seed):
    before, after = assert_exact(conv_net(), seed=seed)
    assert after < before


@pytest.mark.parametrize("seed", range(3))
def test_residual_networks(seed):
    before, after = assert_exact(residual_net(), seed=seed)
    assert after < before


@pytest.mark.parametrize("rank", [1, 3])
def test_other_ranks(rank):
    conv = getattr(layers, f"Conv{rank}D")
    transpose = getattr(layers, f"Conv{rank}DTranspose")
    pool = getattr(layers, f"MaxPooling{rank}D")
    inputs = keras.Input((8,) * rank + (2,))
    x = conv(6, 3, activation="relu")(inputs)
    x = pool(2)(x)
    x = transpose(5, 3, activation="elu")(x)
    x = conv(4, 1)(x)
    x = layers.Flatten()(x)
    before, after = assert_exact(keras.Model(inputs, layers.Dense(2)(x)))
    assert after < before


def test_sequential_stays_sequential_and_the_same_object():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(8, 3),
            layers.ReLU(),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )
    before, after = assert_exact(model)
    assert after < before
    assert [type(x).__name__ for x in model.layers] == ["Conv2D", "ReLU", "Flatten", "Dense"]
    assert model.get_layer(index=0).filters < 8


def test_nested_and_shared_models():
    block = keras.Sequential(
        [keras.Input((8, 8, 6)), layers.Conv2D(6, 3, padding="same"), layers.ReLU()], name="block"
    )
    inner_inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, padding="same")(inner_inputs)
    x = block(block(x))
    inner = keras.Model(inner_inputs, x, name="inner")
    a, b = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    y = layers.Concatenate()([inner(a), inner(b)])
    y = layers.Conv2D(5, 3)(y)
    model = keras.Model([a, b], layers.Dense(2)(layers.GlobalMaxPooling2D()(y)))
    before, after = assert_exact(model)
    assert after < before


def test_the_whole_map_kept_changes_nothing():
    model = conv_net()
    channel_map = trace(model)
    layer = model.get_layer("stem")
    reconfigure(model, np.ones(len(channel_map), bool))
    assert model.get_layer("stem") is layer


@pytest.mark.compiles_much
def test_saves_and_loads_without_ptkeras(tmp_path):
    model = residual_net()
    dead_branch(model)
    inputs = inputs_for(model)
    (before,) = outputs_of(model, inputs)
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "inputs.npy", inputs)
    program = (
        "import sys, keras, numpy as np\n"
        "sys.modules['ptkeras'] = None\n"
        f"model = keras.models.load_model(r'{tmp_path}/model.keras')\n"
        f"outputs = model(np.load(r'{tmp_path}/inputs.npy'))\n"
        f"np.save(r'{tmp_path}/outputs.npy', keras.ops.convert_to_numpy(outputs))\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path)
    assert_same([before], [np.load(tmp_path / "outputs.npy")])


def dead_branch(model):
    """Takes every inner channel of the first residual branch; returns the outputs before."""
    randomise(model)
    channel_map = trace(model)
    keep = np.ones(len(channel_map), bool)
    keep[channel_map.produced()["conv0_1"]] = False
    zero(channel_map, keep)
    before = outputs_of(model, inputs_for(model))
    reconfigure(model, keep)
    return before


def test_a_dead_branch_leaves_its_constant_behind():
    model = residual_net()
    before = dead_branch(model)
    names = {layer.name for layer in model.layers}
    assert not names & {"conv0_1", "conv0_2", "bn0", "bn0_2", "add0"}
    assert names >= {"add0_constant", "conv1_1"}
    assert_same(before, outputs_of(model, inputs_for(model)))
    # The constant is per channel of the shortcut: it has to shrink with it.
    assert_exact(model, seed=5)
    assert trace(model).frozen.sum() < len(trace(model))


def test_a_dead_gate_becomes_a_factor():
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(8, 3)(inputs)
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.Conv2D(2, 1, activation="relu", name="squeeze")(gate)
    gate = layers.Conv2D(8, 1, activation="sigmoid", name="excite")(gate)
    x = layers.Conv2D(4, 3)(layers.Multiply(name="scale")([x, gate]))
    model = keras.Model(inputs, layers.GlobalAveragePooling2D()(x))

    def squeeze_goes(channel_map):
        keep = np.ones(len(channel_map), bool)
        keep[channel_map.produced()["squeeze"]] = False
        return keep

    assert_exact(model, keep=squeeze_goes)
    assert "excite" not in {layer.name for layer in model.layers}


def test_a_tensor_that_cannot_be_done_without_is_refused_and_the_model_unharmed():
    model = conv_net()
    channel_map = trace(model)
    keep = channel_map.frozen.copy()
    layer, before = model.get_layer("stem"), outputs_of(model, inputs_for(model))
    with pytest.raises(DeadEndError, match="keep at least one"):
        reconfigure(model, keep)
    assert model.get_layer("stem") is layer
    assert_same(before, outputs_of(model, inputs_for(model)), 0)


def test_a_mask_that_drops_frozen_channels_is_refused():
    model = conv_net()
    with pytest.raises(ValueError, match="frozen"):
        reconfigure(model, np.zeros(len(trace(model)), bool))


@pytest.mark.parametrize("keep", [np.ones(3, bool), np.ones(40), "all", [[True], [True, False]]])
def test_a_mask_of_another_shape_or_type_is_refused(keep):
    with pytest.raises(ValueError, match="one per channel"):
        reconfigure(conv_net(), keep)


def test_the_map_of_another_model_or_of_what_the_model_was_is_refused():
    model, other = conv_net(), conv_net()
    channel_map = trace(model)
    keep = random_keep(channel_map)
    with pytest.raises(ValueError, match="is of another model"):
        reconfigure(other, keep, channel_map=channel_map)
    reconfigure(model, keep, channel_map=channel_map)
    with pytest.raises(ValueError, match="was traced before that changed"):
        reconfigure(model, keep, channel_map=channel_map)


def test_models_without_a_graph_are_refused():
    class Subclassed(keras.Model):
        def call(self, x):
            return x

    for model in (Subclassed(), keras.Sequential([layers.Dense(3)]), layers.Dense(3)):
        with pytest.raises(
            ValueError, match=r"call it on a batch|not built|Expected a Keras model"
        ):
            reconfigure(model, [True])


class Classifier(keras.Model):
    """A functional model with a class of its own, whose config says the dense network."""

    def __init__(self, width):
        inputs = keras.Input((8, 8, 3))
        x = layers.Conv2D(width, 3, activation="relu")(inputs)
        super().__init__(inputs, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))
        self.width = width
        self.steps = 0

    def train_step(self, *args):
        self.steps += 1
        return super().train_step(*args)

    def get_config(self):
        return {"width": self.width}


def test_a_functional_subclass_trains_as_before_and_saves_as_it_is(tmp_path):
    model = Classifier(8)
    before, after = assert_exact(model)
    assert after < before and isinstance(model, Classifier)
    clone = keras.models.clone_model(model)
    assert clone.count_params() == after
    model.compile("sgd", "mse")
    x = inputs_for(model)
    model.fit(x, np.zeros((3, 2)), verbose=0)
    assert model.steps > 0
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert_same(outputs_of(model, x), outputs_of(loaded, x))


def test_regularizers_constraints_and_trainable_flags_stay():
    model = conv_net()
    stem = model.get_layer("stem")
    stem.kernel.regularizer = keras.regularizers.L2(0.5)
    model.get_layer("last_of_branch").trainable = False
    reconfigure(model, random_keep(trace(model)))
    assert model.get_layer("stem").kernel.regularizer.l2 == 0.5
    assert not model.get_layer("last_of_branch").trainable_variables


@st.composite
def small_networks(draw):
    """Networks of convolutions, batch norm, pooling, shortcuts and concatenations."""
    inputs = keras.Input((8, 8, 2))
    tensors = [layers.Conv2D(draw(st.integers(1, 5)), 3, padding="same")(inputs)]
    for _ in range(draw(st.integers(1, 6))):
        x = draw(st.sampled_from(tensors))
        kind = draw(st.sampled_from(["conv", "bn", "act", "depthwise", "add", "concat", "scale"]))
        if kind == "conv":
            x = layers.Conv2D(draw(st.integers(1, 5)), 3, padding="same")(x)
        elif kind == "bn":
            x = layers.BatchNormalization()(x)
        elif kind == "act":
            x = layers.Activation(draw(st.sampled_from(["relu", "sigmoid", "gelu"])))(x)
        elif kind == "depthwise":
            x = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2)(x)
        elif kind == "add":
            same = [t for t in tensors if t.shape == x.shape]
            x = layers.Add()([x, draw(st.sampled_from(same))])
        elif kind == "scale":
            x = x * 2.0 + 0.5
        else:
            x = layers.Concatenate()([x, draw(st.sampled_from(tensors))])
        tensors.append(x)
    x = (
        layers.Flatten()(tensors[-1])
        if draw(st.booleans())
        else (layers.GlobalAveragePooling2D()(tensors[-1]))
    )
    return keras.Model(inputs, layers.Dense(3)(x))


@hypothesis.settings(max_examples=5 if TRIES_FEW else 40)
@hypothesis.given(small_networks(), st.integers(0, 100), st.floats(0, 0.9))
def test_any_mask_of_any_network_is_exact_or_refused(model, seed, share):
    channel_map = trace(model)
    keep = random_keep(channel_map, seed, share)
    try:
        assert_exact(model, keep=lambda _: keep, seed=seed)
    except DeadEndError as error:
        assert channel_map.is_dead(keep, error.tensor)


def test_the_attention_of_a_frozen_model():
    x = keras.Input((5, 4))
    y = layers.MultiHeadAttention(2, 8, name="attention")(x, x)
    y = layers.GroupQueryAttention(8, 8, 8, name="groups")(y, y)
    model = keras.Model(x, layers.Dense(3)(layers.Flatten()(y)))
    model.trainable = False
    before, after = assert_exact(model)
    assert after < before
    assert model.get_layer("attention").key_dim < 8 and model.get_layer("groups").head_dim < 8


def test_what_is_in_a_wrapper_and_used_beside_it_stays_one(tmp_path):
    tower = keras.Sequential([keras.Input((4,)), layers.Dense(6), layers.Dense(5)], name="tower")
    dense = layers.Dense(6, name="dense")
    x = keras.Input((3, 4))
    outputs = []
    for shared in (tower, dense):
        wrapped, alone = layers.TimeDistributed(shared)(x), shared(x[:, 0])
        outputs.append(layers.Dense(2)(wrapped) + layers.Dense(2)(alone)[:, None])
    model = keras.Model(x, outputs)
    before, after = assert_exact(model)
    assert after < before
    inputs = inputs_for(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.count_params() == after
    assert_same(outputs_of(model, inputs), outputs_of(loaded, inputs))


@keras.saving.register_keras_serializable("tests")
class Doubled(keras.Model):
    """Functional, but with a call that does more than its graph."""

    def call(self, inputs, **kwargs):
        return 2 * super().call(inputs, **kwargs)


def test_a_nested_model_with_a_call_of_its_own_is_seen_through():
    inner = keras.Input((4,))
    doubled = Doubled(inner, layers.Dense(5)(layers.Dense(6)(inner)), name="doubled")
    x = keras.Input((4,))
    y = layers.Dense(3)(layers.Dense(7)(doubled(layers.Dense(4)(x))))
    before, after = assert_exact(keras.Model(x, y))
    assert after < before
    assert doubled.layers[1].units < 6


def test_stateful_layers_go_on_from_their_states():
    x = keras.Input(batch_shape=(3, 5, 4))
    y = layers.LSTM(6, stateful=True, return_sequences=True)(x)
    model = keras.Model(x, layers.Dense(2)(layers.GRU(5, stateful=True)(y)))
    randomise(model)
    channel_map = trace(model)
    keep = random_keep(channel_map, 1)
    zero(channel_map, keep)
    inputs = inputs_for(model)
    outputs_of(model, inputs)
    states = [[keras.ops.copy(s) for s in layer.states] for layer in model.layers[1:3]]
    expected = outputs_of(model, inputs)
    for layer, before in zip(model.layers[1:3], states, strict=True):
        for state, value in zip(layer.states, before, strict=True):
            state.assign(value)
    reconfigure(model, keep)
    assert model.layers[1].states[0].shape[-1] < 6
    assert_same(expected, outputs_of(model, inputs))
