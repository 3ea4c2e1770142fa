"""Exports of layers that write variables at inference: seeds, states, counters."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from ptkeras import export
from ptkeras.export import runtimes

pytestmark = [pytest.mark.tensorflow, pytest.mark.thorough]

FORMATS = {
    "a.onnx": export.to_onnx,
    "a": export.to_saved_model,
    "a.tflite": export.to_litert,
}


class Noisy(layers.Layer):
    """Adds random numbers, at inference too."""

    def __init__(self, seeded=True, **options):
        super().__init__(**options)
        self.seed = keras.random.SeedGenerator(1) if seeded else None

    def call(self, x):
        return x + keras.random.normal(ops.shape(x), seed=self.seed)


class Counting(layers.Layer):
    """Counts its calls, and adds the count if `told`."""

    def __init__(self, told, **options):
        super().__init__(**options)
        self.told = told

    def build(self, shape):
        self.count = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x):
        self.count.assign(self.count + 1)
        return x + self.count if self.told else 2 * x


def model_of(layer, shape=(5, 3), batch_size=2):
    return keras.Sequential([keras.Input(shape, batch_size=batch_size), layer])


def values(model):
    states = [getattr(layer, "states", None) or [] for layer in model.layers]
    return [np.array(x) for x in [*model.variables, *keras.tree.flatten(states)]]


DROPPING = {
    "lstm": (lambda: layers.LSTM(4, dropout=0.2), (5, 3)),
    "gru": (lambda: layers.GRU(4, dropout=0.2, recurrent_dropout=0.2, unroll=True), (5, 3)),
    "simple": (lambda: layers.SimpleRNN(4, dropout=0.2, recurrent_dropout=0.2), (5, 3)),
    "both ways": (lambda: layers.Bidirectional(layers.LSTM(4, recurrent_dropout=0.2)), (5, 3)),
    "stacked": (
        lambda: layers.RNN(
            [layers.LSTMCell(4, dropout=0.2), layers.SimpleRNNCell(2, recurrent_dropout=0.2)]
        ),
        (5, 3),
    ),
    "convolutional": (lambda: layers.ConvLSTM2D(2, 3, dropout=0.2), (3, 5, 5, 2)),
    "in time": (lambda: layers.TimeDistributed(layers.GRU(4, dropout=0.2)), (2, 5, 3)),
    "counting": (lambda: Counting(told=False), (5, 3)),
}


@pytest.mark.parametrize("file", FORMATS)
@pytest.mark.parametrize("name", DROPPING)
def test_what_is_written_and_not_read_is_left_out(name, file, tmp_path):
    layer, shape = DROPPING[name]
    model = model_of(layer(), shape)
    before = values(model)
    artifact = FORMATS[file](model, tmp_path / file)
    assert artifact.verification.max_relative < 1e-5
    for old, new in zip(before, values(model), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("file", FORMATS)
def test_random_numbers_cannot_be_verified(file, tmp_path):
    model = keras.Sequential([model_of(Noisy(name="noisy")), layers.LSTM(2, dropout=0.2)])
    with pytest.raises(export.ExportError, match=r"draws random numbers at inference \('noisy'\)"):
        FORMATS[file](model, tmp_path / file)
    with pytest.raises(export.ExportError, match="draws random numbers at inference, so"):
        FORMATS[file](model_of(Noisy(seeded=False)), tmp_path / file)
    assert list(tmp_path.iterdir()) == []


def test_random_numbers_in_a_saved_model_that_is_not_verified(tmp_path):
    artifact = export.to_saved_model(model_of(Noisy()), tmp_path / "a", check=False)
    run = runtimes.load(artifact)
    [port], zeros = run.inputs, np.zeros((2, 5, 3), "float32")
    first, second = (next(iter(run({port: zeros}).values())) for _ in range(2))
    assert not np.allclose(first, second)


STATES = {
    "lstm": lambda: layers.LSTM(4, stateful=True, dropout=0.2, name="kept"),
    "counter": lambda: Counting(told=True, name="kept"),
}


@pytest.mark.parametrize("name", STATES)
@pytest.mark.parametrize("file", ["a.onnx", "a.tflite"])
def test_a_state_is_refused_where_it_cannot_be_kept(name, file, tmp_path):
    with pytest.raises(
        export.ExportError, match=r"keeps a state .* \('kept'\), which only a Saved"
    ):
        FORMATS[file](model_of(STATES[name]()), tmp_path / file, check=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", STATES)
def test_a_saved_model_keeps_the_state(name, tmp_path):
    model = model_of(STATES[name]())
    before = values(model)
    artifact = export.to_saved_model(model, tmp_path / "a")
    for old, new in zip(before, values(model), strict=True):
        np.testing.assert_array_equal(old, new)
    run = runtimes.load(artifact)
    [port], ones = run.inputs, np.ones((2, 5, 3), "float32")
    for _ in range(3):
        [answer] = run({port: ones}).values()
        np.testing.assert_allclose(answer, model(ones), rtol=1e-5)
