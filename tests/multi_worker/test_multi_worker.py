"""What workers tell each other; two threads stand for the workers."""

import dataclasses
import threading

import keras
import numpy as np
import pytest

from ptkeras import data
from ptkeras.multi_worker import agreement as multi_worker
from ptkeras.surgery.variables import Gate
from tests.helpers.two_devices import mirrored_strategy

pytestmark = pytest.mark.tensorflow


@pytest.fixture
def together(monkeypatch):
    """Runs a function as worker 0 and as worker 1; returns what came of each."""
    me, both, lock = threading.local(), threading.Barrier(2, timeout=30), threading.Lock()
    sent, lengths = {}, []

    def add(strategy, values):
        with lock:
            sent[me.index] = values
            lengths.append(values.nbytes)
        both.wait()
        total = sent[0] + sent[1]
        both.wait()
        return total

    monkeypatch.setattr(multi_worker, "number_of_workers", lambda strategy: 2)
    monkeypatch.setattr(multi_worker, "index_of_worker", lambda strategy: me.index)
    monkeypatch.setattr(multi_worker, "_sum", add)

    def run(act):
        found = {}

        def work(index):
            me.index = index
            try:
                found[index] = act(index)
            except BaseException as error:
                found[index] = error

        threads = [threading.Thread(target=work, args=(index,)) for index in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return found[0], found[1]

    run.lengths = lengths
    return run


@pytest.mark.parametrize("size", [0, 1, 16, 17, 100])
def test_a_file_goes_to_the_others_in_blocks(together, tmp_path, monkeypatch, size):
    monkeypatch.setattr(multi_worker, "_BLOCK", 16)
    content = np.random.default_rng(0).bytes(size)
    (tmp_path / "a.keras").write_bytes(content)
    monkeypatch.setattr(
        multi_worker, "from_chief", lambda strategy, find: str(tmp_path / "a.keras")
    )

    def read(index):
        with multi_worker.file_of_chief("a strategy", lambda: None) as path:
            assert (path == tmp_path / "a.keras") == (index == 0)
            return path.read_bytes()

    assert together(read) == (content, content)
    assert max(together.lengths) <= 16
    assert multi_worker._BLOCK % 8 == 0


def test_what_the_chief_says_arrives_whole(together, monkeypatch):
    monkeypatch.setattr(multi_worker, "_BLOCK", 16)
    told = {"a": [1, 2.5, None], "b": "λ" * 50}
    assert together(lambda index: multi_worker.from_chief("a strategy", lambda: told)) == (
        told,
        told,
    )


@pytest.mark.parametrize("error", [KeyboardInterrupt("Stopped."), SystemExit(3), OSError("full")])
def test_whatever_stops_the_chief_the_others_are_told(together, error):
    def ask():
        raise error

    chief, other = together(lambda index: multi_worker.from_chief("a strategy", ask))
    assert chief is error
    assert isinstance(other, multi_worker.ChiefStoppedError)
    assert str(other) == f"The chief has stopped: {error}"


def decided(together, monkeypatch, model, keep, gates):
    monkeypatch.setattr(multi_worker, "strategy_of", lambda model: mirrored_strategy())
    return together(lambda i: multi_worker.check_decision(model, 3, keep[i], gates[i]))


def test_a_decision_counts_gates_and_every_device(together, monkeypatch):
    with mirrored_strategy().scope():
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    keep = [np.array([True, False])] * 2
    dense = id(model.layers[0])
    gate = Gate(np.ones(4, bool), np.array([True, False, True]))
    other = Gate(np.ones(4, bool), np.array([True, True, False]))
    assert decided(together, monkeypatch, model, keep, [{dense: gate}] * 2) == (None, None)
    for gates in ([{dense: gate}, {dense: other}], [{dense: gate}, {}]):
        for error in decided(together, monkeypatch, model, keep, gates):
            assert "differ in the channels to remove after epoch 3" in str(error)
    kernel = model.layers[0].kernel.value
    mirrored_strategy().experimental_local_results(kernel)[1].assign(np.ones((4, 3)))
    for error in decided(together, monkeypatch, model, keep, [{}] * 2):
        assert "differ in their weights after epoch 3" in str(error)


def test_copies_of_the_data_are_told_apart(together, tmp_path):
    whole, part = data.load("digits", batch_size=8), data.load("digits", batch_size=8, hold_out=0.1)

    def check(datasets):
        return lambda i: multi_worker.check_same("s", "their data", datasets[i].facts())

    here, copy, cut = (tmp_path / name / "a.tfrecord" for name in ("here", "there", "cut"))
    for path, content in ((here, b"1234"), (copy, b"1234"), (cut, b"12")):
        path.parent.mkdir()
        path.write_bytes(content)
    here, copy, cut = (dataclasses.replace(whole, files=(str(p),)) for p in (here, copy, cut))
    assert together(check([whole, whole])) == together(check([here, copy])) == (None, None)
    for pair in ([whole, part], [here, cut], [here, whole]):
        for error in together(check(pair)):
            assert "The workers differ in their data: worker 1 from worker 0" in str(error)
