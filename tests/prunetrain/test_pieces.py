"""A training in several calls of `fit`."""

import warnings

import hypothesis
import hypothesis.strategies as st
import pytest

import ptkeras
from ptkeras.prunetrain.epochs import Epochs
from tests.helpers.digits_network import compiled, digits


def decisions(epochs, first, last):
    """The epochs after which one call of fit decides."""
    due = []
    for epoch in range(first, last):
        if epoch == first:
            epochs.begin(epoch, last)
        epochs.end_epoch(epoch)
        if epochs.is_due:
            due.append(epochs.trained)
            epochs.reconfigured = epochs.trained
    return due


@hypothesis.given(st.integers(2, 6), st.data(), st.booleans())
def test_the_interval_counts_over_pieces(interval, data, is_numbered):
    lengths = data.draw(st.lists(st.integers(1, interval - 1), max_size=12))
    epochs, due, total = Epochs(interval), [], 0
    for length in lengths:
        first = total if is_numbered else 0
        due += decisions(epochs, first, first + length)
        total += length
    assert due == list(range(interval, total + 1, interval))
    assert epochs.trained == total


@hypothesis.given(st.integers(1, 6), st.integers(1, 20))
def test_a_training_in_one_call_ends_with_a_decision(interval, length):
    due = decisions(Epochs(interval), 0, length)
    expected = set(range(interval, length + 1, interval))
    assert set(due) == (expected | {length} if length >= interval else expected)


@hypothesis.given(st.integers(1, 6), st.integers(1, 20), st.integers(0, 19))
def test_a_training_that_was_stopped_goes_on_as_if_it_had_not_been(interval, length, stop):
    stop = min(stop, length)
    before = Epochs(interval)
    due = []
    for epoch in range(stop):  # fit is to train them all, and is killed after some
        if epoch == 0:
            before.begin(0, length)
        before.end_epoch(epoch)
        due += [before.trained] if before.is_due else []
    after = Epochs(interval)
    after.set_state(before.get_state())
    due += decisions(after, stop, length)
    assert due == decisions(Epochs(interval), 0, length)


@pytest.mark.compiles_much
@pytest.mark.parametrize("is_numbered", [True, False])
def test_fit_one_epoch_at_a_time(is_numbered):
    x, y = digits(32)
    model = compiled()
    callback, at = ptkeras.PruneTrain(ratio=0.2, interval=2, verbose=0), []
    whole = callback.reconfigure
    callback.reconfigure = lambda epoch, always: (at.append(epoch), whole(epoch, always))[1]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for epoch in range(5):
            first = epoch if is_numbered else 0
            log = model.fit(
                x, y, 32, initial_epoch=first, epochs=first + 1, callbacks=[callback], verbose=0
            )
    assert at == [2, 4]
    assert log.history["training_flops"] == [5 * 32 * ptkeras.cost.training_flops(model)]
    about = [str(one.message) for one in told if "PruneTrain" in str(one.message)]
    assert len(about) == 1 and "longer than this fit of 1" in about[0]


def test_no_epochs_are_no_reason_to_complain(recwarn):
    x, y = digits(32)
    compiled().fit(x, y, epochs=0, callbacks=[ptkeras.PruneTrain(ratio=0.2, interval=1)], verbose=0)
    assert not [one for one in recwarn if "interval" in str(one.message)]
