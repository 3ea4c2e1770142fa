"""What a checkpoint may set of a callback of Keras, and what it may not."""

import json

import keras
import numpy as np
import pytest

from ptkeras.survival import Survival
from ptkeras.survival.keras_callbacks import KerasState
from tests.helpers.same_run import resealed


class Patient(keras.callbacks.EarlyStopping):
    def __init__(self, **arguments):
        super().__init__("loss", **arguments)


def stopping(**arguments):
    return keras.callbacks.EarlyStopping("loss", **{"patience": 3} | arguments)


@pytest.mark.parametrize("make", [stopping, lambda: Patient(patience=3)], ids=["own", "subclass"])
def test_numbers_that_count_are_taken_back_and_arguments_are_not(make):
    first, second = make(), make()
    first.on_train_begin()
    first.wait, first.best, first.best_epoch = 2, np.float32(0.5), 4
    state = json.loads(json.dumps(KerasState(first).get_state()))
    assert "patience" not in state and "min_delta" not in state
    KerasState(second).set_state(state)  # ahead of the training: best_epoch is not there yet
    second.on_train_begin()
    KerasState(second).set_state(state)
    assert (second.wait, second.best, second.best_epoch) == (2, 0.5, 4)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("patience", 0),
        ("min_delta", 1.0),
        ("monitor", "other"),
        ("on_epoch_end", None),
        ("model", None),
        ("best_weights", None),
        ("best", "0"),
        ("wait", [1]),
        ("__class__", 1),
    ],
)
def test_anything_else_is_refused_in_a_sentence_and_nothing_is_set(key, value):
    callback = stopping()
    before = dict(vars(callback))
    with pytest.raises(ValueError, match=f"would set '{key}' of EarlyStopping") as caught:
        KerasState(callback).set_state({"wait": 2, key: value})
    assert "\n" not in str(caught.value) and str(caught.value).endswith("begin again.")
    assert vars(callback) == before


def test_a_state_that_is_none_is_refused():
    with pytest.raises(ValueError, match="has never written that"):
        KerasState(stopping()).set_state(["wait"])


def test_a_name_that_the_callback_never_has_is_never_set():
    callback = stopping()
    KerasState(callback).set_state({"strange": 1})
    assert not hasattr(callback, "strange")


@pytest.mark.parametrize("change", [{"filepath": "ELSEWHERE"}, {"_save_model": None}])
def test_a_checkpoint_with_another_seal_does_not_write_elsewhere(tmp_path, change):
    elsewhere = str(tmp_path / "elsewhere.keras")
    change = {name: value and elsewhere for name, value in change.items()}

    def fit(epochs):
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        model.compile("sgd", "mse")
        kept = keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", "loss", save_best_only=True)
        survival = Survival(tmp_path / "last.keras", [kept])
        x, y = np.ones((8, 3)), np.ones((8, 2))
        model.fit(x, y, epochs=epochs, verbose=0, callbacks=[kept, survival])

    fit(1)
    resealed(tmp_path / "last.keras", lambda state: state["states"][0].update(change))
    with pytest.raises(ValueError, match="of ModelCheckpoint"):
        fit(2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.keras", "last.keras"]
