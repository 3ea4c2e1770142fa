import inspect
import types

import pytest

import ptkeras
from ptkeras import methods
from ptkeras.methods import settings

DATASET = types.SimpleNamespace(batch_size=7, num_train=100)


def callbacks(arguments):
    """What PruneTrain trains with."""
    values = settings.parse(arguments)
    return methods.get("prunetrain").start(values, DATASET, model=None, folder=None).callbacks


def test_every_option_of_prunetrain_is_a_flag():
    options = set(inspect.signature(ptkeras.PruneTrain).parameters)
    assert options - set(settings.table().flags) - {"model"} == {
        "verbose",
        "monitor",
        "input_shape",
    }


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


def test_flag_defaults_are_those_of_the_callback():
    values = settings.parse([])
    for name, parameter in inspect.signature(ptkeras.PruneTrain).parameters.items():
        if name not in ("verbose", "batch_size", "model", "monitor", "input_shape"):
            assert getattr(values, name) == parameter.default, name
