import gzip

import keras
import numpy as np
import pytest
from keras import layers

import ptkeras
from ptkeras import magnitude
from ptkeras.magnitude.kernels import kernels


def network():
    model = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            layers.Conv2D(8, 3, name="first"),
            layers.Conv2D(8, 3, name="second"),
            layers.Flatten(),
            layers.Dense(10, name="hidden"),
            layers.Dense(4, name="scores"),
        ]
    )
    for size, kernel in enumerate(kernels(model), start=1):  # layers of several magnitudes
        kernel.variable.assign(size * kernel.values / np.abs(kernel.values).max())
    return model


def shares(report):
    return {row.path.split("/")[-1]: round(row.zeros / row.size, 2) for row in report.kernels}


def test_each_layer_has_a_threshold():
    model = network()
    before = model.get_weights()
    report = magnitude.prune(model, 0.75)
    assert shares(report) == dict.fromkeys(["first", "second", "hidden", "scores"], 0.75)
    for row, kernel in zip(report.kernels, kernels(model), strict=True):
        left = np.abs(kernel.values[kernel.values != 0])
        assert left.min() == pytest.approx(row.threshold)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(new[new != 0], old[new != 0])


def test_kinds_and_all_have_one():
    by_kind = magnitude.prune(network(), 0.5, scope="kind")
    first, second, hidden, scores = by_kind.kernels
    assert first.threshold == second.threshold < hidden.threshold == scores.threshold
    assert by_kind.sparsity_of("conv") == pytest.approx(0.5, abs=0.01)
    assert by_kind.sparsity_of("dense") == pytest.approx(0.5, abs=0.01)
    assert shares(by_kind)["first"] > 0.6
    together = magnitude.prune(network(), 0.5, scope="global")
    assert len({row.threshold for row in together.kernels}) == 1
    assert together.sparsity == pytest.approx(0.5, abs=0.01)


def test_shares_by_layer_and_by_kind():
    report = magnitude.prune(network(), {"conv": 0.5, "second": 0.25})
    assert shares(report) == {"first": 0.5, "second": 0.25, "hidden": 0, "scores": 0}
    report = magnitude.prune(network(), {"conv": 0.5, "dense": 0.75}, scope="kind")
    assert report.kernels[0].threshold == report.kernels[1].threshold
    assert report.sparsity_of("dense") == pytest.approx(0.75, abs=0.01)
    report = magnitude.prune(network(), 0.5, leave_alone=["dense", "first"])
    assert shares(report) == {"first": 0, "second": 0.5, "hidden": 0, "scores": 0}


def test_zeros_hold_while_it_is_retrained():
    model = network()
    model.compile(keras.optimizers.Adam(0.01), keras.losses.MeanSquaredError())
    x, y = np.ones((8, 6, 6, 2), "float32"), np.ones((8, 4), "float32")
    model.fit(x, y, verbose=0)
    report = magnitude.prune(model, 0.5)
    model.fit(x, y, epochs=3, verbose=0)
    assert magnitude.report(model).sparsity == report.sparsity
    more = magnitude.prune(model, 0.75)
    model.fit(x, y, epochs=3, verbose=0)
    after = magnitude.report(model)
    assert after.sparsity == more.sparsity > report.sparsity
    # All zeros are the same bytes, so that they compress.
    assert not any(np.signbit(kernel.values[kernel.values == 0]).any() for kernel in kernels(model))


def test_zeros_that_are_there_go_first_and_hold():
    model = network()
    model.compile(keras.optimizers.Adam(0.01), keras.losses.MeanSquaredError())
    more = magnitude.prune(model, 0.8)
    magnitude.strip(model)
    model.get_layer("scores").kernel.assign(np.zeros((10, 4)))  # of which nothing would be left
    assert magnitude.prune(model, 0.5).kernels[0].threshold == 0
    model.fit(np.ones((8, 6, 6, 2), "float32"), np.ones((8, 4), "float32"), epochs=3, verbose=0)
    after = magnitude.report(model)
    assert [row.zeros for row in after.kernels[:-1]] == [row.zeros for row in more.kernels[:-1]]
    assert after.kernels[-1].zeros == 0
    magnitude.strip(model)
    magnitude.prune(model, 0.0)
    model.fit(np.ones((8, 6, 6, 2), "float32"), np.ones((8, 4), "float32"), epochs=3, verbose=0)
    assert magnitude.report(model).sparsity < 0.5


def test_averages_over_the_steps_are_told_of():
    model = network()
    model.compile(keras.optimizers.SGD(0.1, use_ema=True), keras.losses.MeanSquaredError())
    x, y = np.ones((8, 6, 6, 2), "float32"), np.ones((8, 4), "float32")
    with pytest.warns(UserWarning, match=r"\(use_ema\).*MagnitudePruning\(lambda step: None\)"):
        report = magnitude.prune(model, 0.5)
    model.fit(x, y, verbose=0, callbacks=[ptkeras.MagnitudePruning(lambda step: None)])
    assert magnitude.report(model).sparsity == report.sparsity


def test_the_report_counts_zeros_and_bytes():
    model = network()
    dense = magnitude.report(model)
    report = magnitude.prune(model, 0.9)
    assert dense.sparsity == 0 and dense.nonzero_params == report.params
    assert report.sparsity == pytest.approx(0.9, abs=0.01)
    zeros = sum(int(np.count_nonzero(kernel.values == 0)) for kernel in kernels(model))
    assert report.nonzero_params == model.count_params() - zeros
    data = b"".join(np.ascontiguousarray(w).tobytes() for w in model.get_weights())
    assert report.raw_bytes == len(data)
    assert report.gzip_bytes == pytest.approx(len(gzip.compress(data, 6)), rel=0.01)
    assert report.gzip_bytes < 0.3 * dense.gzip_bytes
    assert "all conv" in str(report) and "second" in str(report)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((1.0,), "sparsity must be a number from 0 and under 1; received 1.0"),
        ((True,), "received True"),
        (({"first": -0.1},), "sparsity of 'first' must be"),
        (({"frist": 0.1},), "goes by 'frist': .*'first'"),
        (({},), "must name a layer"),
    ],
)
def test_what_is_out_of_range_is_told_of(arguments, says):
    model = network()
    before = model.get_weights()
    with pytest.raises(ValueError, match=says):
        magnitude.prune(model, *arguments)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert all(v.constraint is None for v in model.variables)


@pytest.mark.tensorflow
@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_the_export_to_litert_keeps_the_zeros(tmp_path, precision):
    import tensorflow as tf

    inputs = keras.Input((6, 6, 2))
    x = layers.BatchNormalization()(layers.Conv2D(8, 3)(inputs))
    x = layers.Flatten()(layers.Conv2D(12, 3)(layers.ReLU()(x)))
    model = keras.Model(inputs, layers.Dense(10)(x))
    magnitude.prune(model, 0.8)
    images = np.random.default_rng(0).random((8, 6, 6, 2), "float32")
    path = tmp_path / "small.tflite"
    ptkeras.export.to_litert(
        model, path, precision=precision, calibration=images if precision == "int8" else None
    )
    interpreter = tf.lite.Interpreter(str(path))
    found = {}
    for told in interpreter.get_tensor_details():
        shape = tuple(told["shape"])
        kernel = shape in {(8, 3, 3, 2), (12, 3, 3, 8), (10, 48)}
        if kernel and np.dtype(told["dtype"]).name == precision:
            found[shape] = interpreter.get_tensor(told["index"])
    assert len(found) == 3
    for kernel in found.values():
        assert np.mean(kernel == 0) == pytest.approx(0.8, abs=0.01)
