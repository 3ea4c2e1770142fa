import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from ptkeras import importance
from ptkeras.channels import trace
from ptkeras.fisher.gradients import gradients
from ptkeras.pruning.ranking import first_makers, layer_groups, mean_normalised, ranks_within
from tests.exactness import randomise


def network():
    inputs = keras.Input((8, 8, 2))
    x = layers.Conv2D(4, 3, padding="same", name="a")(inputs)
    x = layers.BatchNormalization(name="bn")(x)
    x = layers.ReLU()(x)
    y = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    y = layers.Conv2D(4, 1, name="b")(y)
    x = layers.Add()([x, y])
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, layers.Dense(3, name="head")(x))
    randomise(model)
    return model


def slices_of(channel_map, channel, kernels_only):
    """Every number of a channel, one slice at a time, in the plainest way there is."""
    for row in channel_map.slices:
        if kernels_only and row.role == "vector":
            continue
        values = np.moveaxis(keras.ops.convert_to_numpy(row.variable.value), row.axis, 0)
        for position in np.flatnonzero(row.channels == channel):
            yield row, position, values[position]


@pytest.mark.parametrize("name, norm", [("l1", 1), ("l2", 2)])
def test_a_norm_is_over_all_kernel_slices_of_a_channel(name, norm):
    channel_map = trace(network())
    scores = getattr(importance, name)(channel_map)
    for channel in np.flatnonzero(~channel_map.frozen):
        parts = [v.ravel() for _, _, v in slices_of(channel_map, channel, True)]
        assert len(parts) == 5  # made by two kernels, filtered by one, read by two
        wanted = np.linalg.norm(np.concatenate(parts), norm)
        np.testing.assert_allclose(scores[channel], wanted, rtol=1e-5)


def test_batch_norm_scale_is_the_size_of_gamma():
    model = network()
    channel_map = trace(model)
    scores = importance.batch_norm_scale(channel_map)
    gamma = keras.ops.convert_to_numpy(model.get_layer("bn").gamma.value)
    channels = next(r.channels for r in channel_map.slices if r.layer.name == "a" and r.axis == 3)
    np.testing.assert_allclose(scores[channels], np.abs(gamma), rtol=1e-6)
    assert np.isinf(np.delete(scores, channels)).all()


def test_batch_norm_scale_needs_a_scale():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(2)(layers.BatchNormalization(scale=False)(inputs)))
    with pytest.raises(ValueError, match=r"BatchNormalization with scale=True.*l1"):
        importance.batch_norm_scale(trace(model))


def test_random_follows_its_seed():
    channel_map = trace(network())
    scores = [importance.random(seed)(channel_map) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(scores[0], scores[1])
    assert (scores[0] != scores[2]).any()


def batch(seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(6, 8, 8, 2)).astype("float32"), rng.normal(size=(6, 3)).astype(
        "float32"
    )


def test_taylor_is_the_slope_of_the_loss_as_a_channel_is_scaled_away():
    model = network()
    x, y = batch()
    loss = keras.losses.MeanSquaredError()
    channel_map = trace(model)
    scores = importance.taylor(x, y, loss)(channel_map)

    def loss_with(channel, scale):
        """The loss with every parameter of a channel scaled: its slope at 1 is Σ w · ∂L/∂w."""
        for row, position, _ in slices_of(channel_map, channel, False):
            if row.variable.name.startswith("moving_"):
                continue
            values = keras.ops.convert_to_numpy(row.variable.value).copy()
            np.moveaxis(values, row.axis, 0)[position] *= scale
            row.variable.assign(values)
        return float(loss(y, model(x, training=False)))

    weights = model.get_weights()
    for channel in np.flatnonzero(~channel_map.frozen):
        results = []
        for scale in (1.01, 0.99):
            results.append(loss_with(channel, scale))
            model.set_weights(weights)
        slope = (results[0] - results[1]) / 0.02
        np.testing.assert_allclose(scores[channel], abs(slope), rtol=2e-2, atol=2e-4)


def test_taylor_is_a_mean_over_mini_batches_and_may_leave_signs_out():
    channel_map = trace(network())
    x, y = batch()
    loss = keras.losses.MeanSquaredError()
    halves = [importance.taylor(x[i], y[i], loss)(channel_map) for i in (slice(3), slice(3, 6))]
    free = ~channel_map.frozen
    mean = importance.taylor(x, y, loss, batch_size=3)(channel_map)
    np.testing.assert_allclose(mean[free], np.mean(halves, 0)[free], rtol=1e-6)
    unsigned = importance.taylor(x, y, loss, signed=False, batch_size=3)(channel_map)
    assert (unsigned[free] >= mean[free]).all()
    with pytest.raises(
        ValueError, match="batch_size of taylor must be a whole number from 1; received 0"
    ):
        importance.taylor(x, y, batch_size=0)


def test_taylor_takes_the_compiled_loss_and_leaves_the_model_alone():
    model = network()
    x, y = batch()
    by_hand = importance.taylor(x, y, keras.losses.MeanSquaredError())(trace(model))
    model.get_layer("a").trainable = False
    model.compile("sgd", "mse")
    weights = model.get_weights()
    np.testing.assert_allclose(importance.taylor(x, y)(trace(model)), by_hand, rtol=1e-5)
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    assert model.evaluate(x, y, verbose=0) > 0


def test_taylor_takes_the_loss_of_several_outputs():
    inputs = keras.Input((4,))
    x = layers.Dense(8, activation="relu")(inputs)
    model = keras.Model(inputs, [layers.Dense(1, name="p")(x), layers.Dense(2, name="q")(x)])
    model.compile("sgd", {"p": "mse", "q": "mse"})
    x, y = np.ones((3, 4), "float32"), [np.ones((3, 1)), np.zeros((3, 2))]
    channel_map = trace(model)
    scores = importance.taylor(x, y)(channel_map)
    assert (scores[~channel_map.frozen] > 0).any()


def test_taylor_says_what_it_lacks():
    model = network()
    x, y = batch()
    with pytest.raises(ValueError, match=r"not compiled with a loss.*pass loss="):
        importance.taylor(x, y)(trace(model))
    with pytest.raises(ValueError, match="no finite gradient"):
        importance.taylor(x * np.nan, y, keras.losses.MeanSquaredError())(trace(model))


def test_gradients_are_zero_where_nothing_depends_on_a_variable():
    a, b = keras.Variable([1.0, 2.0]), keras.Variable(np.ones((2, 3)), trainable=False)
    slopes = gradients(lambda: keras.ops.sum(a * a), [a, b])
    np.testing.assert_allclose(slopes[0], [2.0, 4.0])
    np.testing.assert_array_equal(slopes[1], np.zeros((2, 3)))


def test_groups_are_what_is_made_together():
    inputs = keras.Input((8,))
    x = layers.Dense(6, name="wide")(inputs)
    y = layers.Dense(4, name="narrow")(inputs)
    x = layers.Add()([x, keras.ops.pad(y, [[0, 0], [0, 2]])])
    z = layers.Dense(5, name="alone")(x)
    channel_map = trace(keras.Model(inputs, layers.Dense(3)(z)))
    made = {r.layer.name: r.channels for r in channel_map.slices if r.role == "output"}
    groups, makers = layer_groups(channel_map), first_makers(channel_map)
    assert len(set(groups[made["wide"]]) | set(groups[made["narrow"]])) == 1
    assert set(groups[made["alone"]]).isdisjoint(groups[made["wide"]])
    assert len(set(makers[made["alone"]])) == 1
    assert (makers[made["narrow"]] >= 0).all()


@given(
    scores=st.lists(st.floats(0, 100), min_size=1, max_size=30),
    seed=st.integers(0, 9),
    share=st.floats(0, 1),
)
@settings(max_examples=60)
def test_ranks_take_the_same_share_of_every_group(scores, seed, share):
    scores = np.array(scores)
    groups = np.random.default_rng(seed).integers(0, 4, len(scores))
    ranks = ranks_within(scores, groups, np.ones(len(scores), bool))
    for group in np.unique(groups):
        inside = groups == group
        gone = (ranks[inside] < share).sum()
        assert abs(gone - share * inside.sum()) <= 0.5 + 1e-9
        order = np.argsort(ranks[inside], kind="stable")
        assert (np.diff(scores[inside][order]) >= 0).all()


def test_normalised_scores_have_mean_one_in_each_group():
    scores = np.array([1.0, 3.0, 100.0, 300.0, 0.0, 0.0, np.inf])
    groups = np.array([0, 0, 1, 1, 2, 2, 1])
    result = mean_normalised(scores, groups, np.isfinite(scores))
    np.testing.assert_allclose(result[:6], [0.5, 1.5, 0.5, 1.5, 0, 0])
    assert np.isinf(result[6])
