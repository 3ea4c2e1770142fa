"""The learning rate of each epoch, and the flags that say it."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from ptkeras.cli.schedule import learning_rate
from ptkeras.methods.settings import parse
from ptkeras.utils.flagging import SettingsError


def rates(schedule, epochs, **more):
    return [learning_rate(schedule, 0.4, epoch, epochs, **more) for epoch in range(epochs)]


def test_each_schedule_by_hand():
    assert rates("steps", 4, drops=[1, 3]) == pytest.approx([0.4, 0.04, 0.04, 0.004])
    assert rates("cosine", 4) == pytest.approx([0.4, 0.341421, 0.2, 0.058579], rel=1e-5)
    assert rates("one_cycle", 5) == pytest.approx([0.2, 0.35, 0.25, 0.15, 0.05])
    assert rates("steps", 4, warmup=3) == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert rates("cosine", 4, warmup=2) == pytest.approx([0.4 / 3, 0.8 / 3, 0.4, 0.2])


@given(st.sampled_from(["steps", "cosine", "one_cycle"]), st.integers(1, 300), st.integers(0, 9))
def test_a_rate_is_over_zero_and_never_over_the_peak(schedule, epochs, warmup):
    warmup = 0 if schedule == "one_cycle" else min(warmup, epochs - 1)
    found = rates(schedule, epochs, warmup=warmup)
    assert all(0 < rate <= 0.4 * (1 + 1e-9) for rate in found)
    top = found.index(max(found))
    assert found[: top + 1] == sorted(found[: top + 1])
    assert found[top:] == sorted(found[top:], reverse=True)


def test_drops_may_be_shares_of_the_epochs():
    drops = "--learning_rate_drops=0.5,0.75"
    assert parse(["--epochs=60", drops]).learning_rate_drops == [30, 45]
    assert parse(["--epochs=2", drops, "--target=0.5"]).learning_rate_drops == [1]


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--schedule=cosine", "--learning_rate_drops=3"], "drops=3: is for --schedule=steps"),
        (["--schedule=one_cycle", "--warmup_epochs=2"], "one_cycle rises by itself"),
        (["--epochs=5", "--warmup_epochs=5"], "warmup_epochs=5: must be under --epochs=5"),
        (["--schedule=step"], "--schedule=step: must be steps, cosine or one_cycle"),
        (["--learning_rate_drops=0.5,40"], "must be epochs in ascending order"),
        (["--learning_rate_drops=0.75,0.5"], "must be epochs in ascending order"),
        (["--interval=sometimes"], "must be a whole number of epochs from 1, auto or stage"),
        (["--interval=stage", "--ratio=0.2"], "stage: is for a target, and --ratio for the paper"),
    ],
)
def test_what_does_not_go_together_is_refused(flags, says):
    with pytest.raises(SettingsError, match=says):
        parse(flags)
