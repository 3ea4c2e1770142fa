"""A search for gates that is stopped, and goes on, ends bit for bit like one that is not."""

import os
import signal

import keras
import numpy as np
import pytest
from keras import layers

from ptkeras import from_scratch
from ptkeras.survival.callback import InterruptedTrainingError
from tests.helpers.same_run import resealed

pytestmark = pytest.mark.thorough

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
EPOCHS = 4
STEPS = 4


class At(keras.callbacks.Callback):
    """Does something behind a step of an epoch, both counted from 0."""

    def __init__(self, epoch, step, act):
        super().__init__()
        self.moment = epoch, step
        self.act = act
        self.epochs = []

    def on_epoch_begin(self, epoch, logs=None):
        self.epochs.append(epoch)

    def on_train_batch_end(self, batch, logs=None):
        if (self.epochs[-1], batch) == self.moment:
            self.act()


def die():
    raise RuntimeError("killed")


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


def network():
    inputs = keras.Input((6, 6, 2))
    x = layers.Conv2D(8, 3, use_bias=False)(inputs)
    x = layers.ReLU()(layers.BatchNormalization(momentum=0.5)(x))
    x = layers.Dropout(0.3, seed=3)(layers.Conv2D(12, 3, activation="relu")(x))
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))


def search(path, callbacks=(), model=None, scale=1.0, **options):
    random = np.random.default_rng(0)
    y = random.integers(0, 3, 96)
    x = scale * (random.normal(size=(96, 6, 6, 2)) + y[:, None, None, None])
    return from_scratch.learn_gates(
        model or network(),
        x[:64],
        y[:64],
        validation_data=(x[64:], y[64:]),
        callbacks=callbacks,
        checkpoint=path,
        **{"loss": LOSS, "epochs": EPOCHS, "learning_rate": 0.1, "balance_factor": 8.0} | options,
        batch_size=64 // STEPS,
        shuffle=False,
        verbose=0,
    )


def same(one, other):
    np.testing.assert_array_equal(one.gates, other.gates)
    assert (one.epoch, one.history) == (other.epoch, other.history)
    pairs = zip(one.channel_map.model.weights, other.channel_map.model.weights, strict=True)
    for ours, theirs in pairs:
        np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (ours, theirs)))


@pytest.fixture
def whole():
    keras.utils.set_random_seed(1)
    return search(None)


def stopped(path, *moment):
    keras.utils.set_random_seed(1)
    with pytest.raises((RuntimeError, KeyboardInterrupt)) as caught:
        search(path, [At(*moment)])
    keras.utils.set_random_seed(2)  # other weights are drawn, and do not count
    return caught.value


@pytest.mark.parametrize("moment", [(1, 2), (3, 3)], ids=["early", "late"])
def test_a_search_that_is_killed_goes_on_from_its_last_epoch(tmp_path, whole, moment):
    path = tmp_path / "gates.keras"
    stopped(path, *moment, die)
    watch = At(0, 0, die)
    resumed = search(path, [watch])
    assert watch.epochs == list(range(moment[0], EPOCHS))
    same(resumed, whole)
    assert 0 < resumed.gates[np.isfinite(resumed.gates)].mean() < 1  # there was something to learn


def test_a_signal_ends_it_and_says_how_to_go_on(tmp_path, whole):
    path, former = tmp_path / "gates.keras", signal.getsignal(signal.SIGTERM)
    error = stopped(path, 0, 1, terminate)
    assert "SIGTERM while gates were learned; the same call goes on from the beg" in str(error)
    error = stopped(path, 2, 1, terminate)
    assert isinstance(error, InterruptedTrainingError) and error.signal == signal.SIGTERM
    assert "the same call goes on from epoch 2 of that" in str(error)
    assert signal.getsignal(signal.SIGTERM) is former
    same(search(path), whole)


def test_a_signal_behind_the_last_step_is_not_lost(tmp_path, whole):
    path = tmp_path / "gates.keras"
    error = stopped(path, EPOCHS - 1, STEPS - 1, terminate)
    assert "goes on from epoch" in str(error)
    same(search(path), whole)
    watch = At(0, 0, die)
    same(search(path, [watch]), whole)  # all is done already
    assert watch.epochs == []


def test_a_damaged_file_gives_way_to_the_one_before(tmp_path, whole):
    path = tmp_path / "gates.keras"
    stopped(path, 2, 1, die)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    watch = At(0, 0, die)
    with pytest.warns(UserWarning, match="is damaged"):
        same(search(path, [watch]), whole)
    assert watch.epochs == [1, 2, 3]


def test_another_search_is_refused(tmp_path):
    path = tmp_path / "gates.keras"
    stopped(path, 1, 1, die)
    with pytest.raises(ValueError, match=r"the sparsity_ratio of its GateSearch was 0.5, not 0.4"):
        search(path, sparsity_ratio=0.4)
    with pytest.raises(ValueError, match=r"the loss of its .* was {.*SparseCategoricalCross.*}, n"):
        search(path, loss="sparse_categorical_crossentropy")
    x = keras.Input((6, 6, 2))
    y = layers.Conv2D(8, 1)(layers.Conv2D(12, 3)(x))
    other = keras.Model(x, layers.Dense(3)(layers.GlobalMaxPooling2D()(y)))
    with pytest.raises(ValueError, match="part 2 of its network, a weight, has other settings"):
        search(path, model=other)
    with pytest.raises(ValueError, match=r"must end in \.keras"):
        search(tmp_path / "gates")


def test_a_search_that_minimises_something_else_or_on_another_backend_is_refused(tmp_path):
    def weighted(weight):
        model = network()
        model.compile(loss=LOSS, loss_weights=weight)
        return model

    path = tmp_path / "gates.keras"
    search(path, model=weighted(2.0), loss=None, epochs=1)
    with pytest.raises(ValueError, match=r"the loss_weights of its GateSearch was 2.0, not 3.0"):
        search(path, model=weighted(3.0), loss=None)
    hard = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=2)
    with pytest.raises(ValueError, match=r"the loss of its .*, not .*'ignore_class': 2"):
        search(path, model=weighted(2.0), loss=hard)
    resealed(path, lambda state: state["origin"].update(backend="numpy"))
    with pytest.raises(ValueError, match="begun with KERAS_BACKEND=numpy"):
        search(path, model=weighted(2.0), loss=None)


def test_a_search_of_an_older_version_is_refused(tmp_path):
    path = tmp_path / "gates.keras"
    stopped(path, 1, 1, die)
    resealed(path, lambda state: state.pop("origin"))
    saved = path.read_bytes()
    with pytest.raises(
        ValueError, match=r"nothing says what it was begun with\. .*delete the file"
    ):
        search(path)
    assert path.read_bytes() == saved


def test_a_loss_that_is_no_number_ends_it_before_it_is_saved(tmp_path):
    path = tmp_path / "gates.keras"
    with pytest.raises(ValueError, match=r"The loss is (nan|inf) in the gate search"):
        search(path, scale=np.inf)
    assert not path.exists()


def test_what_keras_draws_goes_on(tmp_path):
    class Draw(At):
        def on_epoch_begin(self, epoch, logs=None):
            super().on_epoch_begin(epoch)
            drawn.append(float(keras.random.uniform(())))

    path, drawn = tmp_path / "gates.keras", []
    keras.utils.set_random_seed(1)
    search(None, [Draw(0, 0, lambda: None)])
    whole, drawn = drawn, []
    keras.utils.set_random_seed(1)
    with pytest.raises(RuntimeError):
        search(path, [Draw(1, 2, die)])
    keras.utils.set_random_seed(2)
    drawn = []
    search(path, [Draw(0, 0, die)], sparsity_ratio=np.float32(0.5))
    assert drawn == whole[1:]


def test_two_searches_do_not_write_one_file(tmp_path):
    path = tmp_path / "gates.keras"
    with pytest.raises(ValueError, match="Another training is at work on"):
        search(path, [At(0, 1, lambda: search(path))])
    search(path, epochs=1)  # the one that broke off has it no longer
    assert not (tmp_path / ".lock_gates.keras").exists()
