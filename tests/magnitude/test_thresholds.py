import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ptkeras.magnitude import thresholds

# Few distinct values, so that many are equal.
coarse = arrays.arrays(
    np.float32,
    arrays.array_shapes(min_dims=2, max_dims=2, max_side=9),
    elements=st.sampled_from([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0]),
)
kernel = coarse | arrays.arrays(
    np.float32,
    arrays.array_shapes(min_dims=4, max_dims=4, max_side=6),
    elements=st.floats(-4, 4, width=32, allow_subnormal=False),
)


def test_a_share_of_distinct_weights_goes():
    values = np.random.default_rng(0).permutation(np.arange(1.0, 101.0)).reshape(10, 10)
    threshold = thresholds.threshold([values], 0.3)
    assert threshold == 31.0
    assert thresholds.mask(values, threshold).sum() == 70


def test_all_arrays_share_one_threshold():
    small, large = np.full((2, 5), 0.1), np.arange(1.0, 11.0)
    threshold = thresholds.threshold([small, large], 0.5)
    assert not thresholds.mask(small, threshold).any()
    assert thresholds.mask(large, threshold).all()


def test_one_weight_stays_and_nan_is_large():
    assert thresholds.mask(np.array([1.0, 3.0]), thresholds.threshold([[1.0, 3.0]], 0.999)).sum()
    values = np.array([1.0, np.nan, 2.0, 3.0])
    keep = thresholds.mask(values, thresholds.threshold([values], 0.5))
    assert keep.tolist() == [False, True, False, True]


def test_of_four_in_a_row_the_two_smallest_go():
    values = np.array([[1.0], [-5.0], [3.0], [2.0], [4.0], [0.1], [0.2]])  # 7 inputs, 1 output
    keep = thresholds.m_by_n_mask(values, 2, 4)
    assert keep[:, 0].tolist() == [False, True, True, False, True, False, True]


@pytest.mark.tensorflow
@hypothesis.given(kernel, st.floats(0, 0.984375, width=32))
@hypothesis.settings(max_examples=60)
def test_masks_are_those_of_tfmot(values, sparsity):
    tf = pytest.importorskip("tensorflow")
    tfmot = pytest.importorskip("tensorflow_model_optimization")
    schedule = tfmot.sparsity.keras.ConstantSparsity(sparsity, 0, frequency=1)
    theirs = _tfmot_pruning(lambda: 1, schedule)
    threshold, mask = theirs._update_mask(tf.constant(values))
    ours = thresholds.threshold([values], float(schedule(1)[1]))
    assert ours == float(threshold)
    np.testing.assert_array_equal(thresholds.mask(values, ours), mask.numpy() != 0)


@pytest.mark.tensorflow
@pytest.mark.parametrize("m_by_n", [(2, 4), (1, 2), (3, 8)])
@hypothesis.given(values=kernel)
@hypothesis.settings(max_examples=20)
def test_m_by_n_masks_are_those_of_tfmot(m_by_n, values):
    tf = pytest.importorskip("tensorflow")
    pytest.importorskip("tensorflow_model_optimization")
    theirs = _tfmot_pruning(lambda: 1, None)._update_mask_sparsity_m_by_n(
        tf.constant(values), m_by_n
    )
    ours = thresholds.m_by_n_mask(values, *m_by_n)
    np.testing.assert_array_equal(ours, theirs.numpy() != 0)


def _tfmot_pruning(step, schedule):
    from tensorflow_model_optimization.python.core.sparsity.keras import pruning_impl

    return pruning_impl.Pruning(step, [], schedule, (1, 1), "AVG")
