import keras
import numpy as np
import pytest
from keras import layers

from ptkeras import magnitude
from ptkeras.magnitude.sweep import Sensitivity


@pytest.fixture(scope="module")
def trained():
    """A small network that tells three kinds of images apart, and its accuracy."""
    keras.utils.set_random_seed(0)
    random = np.random.default_rng(0)
    y = random.integers(0, 3, 240)
    x = (random.normal(size=(240, 5, 5, 1)) + 2 * y[:, None, None, None]).astype("float32")
    model = keras.Sequential(
        [
            keras.Input((5, 5, 1)),
            layers.Conv2D(6, 3, activation="relu", name="conv"),
            layers.Flatten(),
            layers.Dense(16, activation="relu", name="hidden"),
            layers.Dense(3, name="scores"),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"])
    model.fit(x[:160], y[:160], epochs=25, verbose=0)

    def evaluate(model):
        return model.evaluate(x[160:], y[160:], verbose=0, return_dict=True)["accuracy"]

    def finetune(model):
        model.fit(x[:160], y[:160], epochs=4, verbose=0)

    return model, evaluate, finetune


def snapshot(model):
    return [keras.ops.convert_to_numpy(v) for v in model.variables + model.optimizer.variables]


def test_accuracy_falls_with_the_ratio_and_comes_back_with_training(trained):
    model, evaluate, finetune = trained
    before = snapshot(model)
    result = magnitude.sweep(model, evaluate, [0.3, 0.85], finetune=finetune)
    assert result.dense == evaluate(model) > 0.9
    low, high = result.rows
    assert low.accuracy > high.accuracy + 0.05
    assert high.finetuned > high.accuracy
    assert 0 < low.conv_threshold < high.conv_threshold
    assert 0 < low.dense_threshold < high.dense_threshold
    assert high.gzip_bytes < low.gzip_bytes
    assert high.dense_sparsity == pytest.approx(0.85, abs=0.02)
    for old, new in zip(before, snapshot(model), strict=True):
        np.testing.assert_array_equal(old, new)
    assert all(v.constraint is None for v in model.variables)
    assert "85" in str(result) and "fine-tuned" in str(result)


def test_without_training_there_is_no_second_accuracy(trained):
    model, evaluate, _ = trained
    (row,) = magnitude.sweep(model, evaluate, [0.5], scope="layer").rows
    assert row.finetuned is None
    assert row.conv_sparsity == pytest.approx(0.5, abs=0.02)


def test_each_accuracy_stands_under_its_ratio():
    shown = Sensitivity(0.9, (0.5, 0.75), {"conv/kernel": (0.81, 0.72)}).__rich__()
    assert [column.header for column in shown.columns] == ["kernel", "0.5", "0.75"]
    assert [list(column.cells) for column in shown.columns] == [
        ["conv/kernel"],
        ["81.00%"],
        ["72.00%"],
    ]


def test_sensitivity_prunes_one_kernel_at_a_time(trained):
    model, evaluate, _ = trained
    before = snapshot(model)
    seen = []

    def watched(model):
        seen.append({row.path for row in magnitude.report(model).kernels if row.zeros > 2})
        return evaluate(model)

    result = magnitude.sensitivity(model, watched, [0.5, 0.9])
    paths = [row.path for row in magnitude.report(model).kernels]
    assert list(result.accuracies) == paths
    assert seen == [set(), *({path} for path in paths for _ in range(2))]
    assert all(len(found) == 2 for found in result.accuracies.values())
    for old, new in zip(before, snapshot(model), strict=True):
        np.testing.assert_array_equal(old, new)
    assert paths[0] in str(result)
