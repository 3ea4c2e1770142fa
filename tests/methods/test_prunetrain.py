import inspect
import types

import pytest

import ptkeras
from ptkeras import methods
from ptkeras.methods import settings
from ptkeras.utils.flagging import SettingsError

DATASET = types.SimpleNamespace(batch_size=7, num_train=100)


def callbacks(arguments):
    """What PruneTrain trains with."""
    values = settings.parse(arguments)
    return methods.get("prunetrain").start(values, DATASET, model=None, folder=None).callbacks


# For models of the user's own, and for a training that is not one fit.
CODE_ONLY = {
    "verbose",
    "monitor",
    "input_shape",
    "leave_alone",
    "overrides",
    "strength",
}


def test_every_option_of_prunetrain_is_a_flag():
    options = set(inspect.signature(ptkeras.PruneTrain).parameters)
    assert options - set(settings.table().flags) - {"model"} == CODE_ONLY


def test_flags_reach_prunetrain():
    flags = {
        "ratio": 0.3,
        "interval": 3,
        "threshold": 0.002,
        "measure": "mean",
        "channel_gating": True,
        "remove_dead_branches": False,
        "min_channels": 2,
        "channel_multiple": 8,
    }
    arguments = [f"--{name}={value}" for name, value in flags.items()]
    (callback,) = callbacks(arguments)
    assert {name: getattr(callback, name) for name in flags} == flags


def test_the_batch_grows_only_if_asked_to():
    for flags, wanted in (([], None), (["--dynamic_batch"], DATASET.batch_size)):
        with pytest.MonkeyPatch.context() as patched:
            seen = {}
            patched.setattr(
                "ptkeras.prunetrain.PruneTrain", lambda seen=seen, **kw: seen.update(kw)
            )
            callbacks(flags)
        assert seen["batch_size"] == wanted


@pytest.mark.parametrize("given", [["--interval=stage"], ["--ratio=0.2"], ["--threshold=1e-4"]])
def test_what_is_left_out_is_as_in_the_callback(given):
    arguments = dict(flag[2:].split("=") for flag in given if flag != "--interval=stage")
    other = ptkeras.PruneTrain(**{name: float(value) for name, value in arguments.items()})
    assert callbacks(given)[0].get_settings() == other.get_settings()


@pytest.mark.parametrize("flag", ["--ratio=0.2", "--threshold=1e-4", "--channel_gating"])
def test_a_target_and_the_lasso_do_not_go_together(flag):
    with pytest.raises(SettingsError, match=f"--target=0.3: .*{flag.split('=')[0]} for the paper"):
        settings.parse(["--target=0.3", flag])


def test_a_target_takes_two_epochs():
    with pytest.raises(SettingsError, match="--epochs=1: --target needs 2 epochs"):
        settings.parse(["--epochs=1"])


def test_a_target_reaches_prunetrain():
    (callback,) = callbacks(["--target=0.3", "--of=params", "--interval=4", "--min_channels=2"])
    asked = {"target": 0.3, "of": "params", "interval": 4, "min_channels": 2}
    assert asked.items() <= callback.get_settings().items()


def test_a_run_of_another_method_goes_on_though_its_file_has_flags_of_the_lasso(tmp_path):
    former = "--method=dense\n--ratio=0.2\n--interval=10\n--threshold=0.0001\n"
    (tmp_path / "flags.txt").write_text(former)
    assert settings.parse(["--method=dense"]).difference(tmp_path / "flags.txt") is None
    other = settings.parse(["--method=dense", "--epochs=7"])
    assert other.difference(tmp_path / "flags.txt") == "--epochs is 60 there and 7 here"


def test_a_run_without_flags_removes_channels_when_that_saves_time():
    assert callbacks([])[0].get_settings()["interval"] == "auto"
