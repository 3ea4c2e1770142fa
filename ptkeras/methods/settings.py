"""The settings of a run: flags read, checked together, and kept.

Nothing here needs Keras: a wrong flag is told of before anything large is imported.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from ptkeras.methods.train_flags import TABLE
from ptkeras.utils.files import read_text
from ptkeras.utils.flagging import Settings, SettingsError, as_text, asks_for_help

__all__ = [
    "Settings",
    "SettingsError",
    "asks_for_help",
    "difference",
    "help_text",
    "parse",
    "to_text",
]

_TAKE_DEVICES = ("mirrored", "data_parallel")
_DISTRIBUTED_METHODS = ("dense", "prunetrain")
# What does not change the network that comes out.
APART = ("output_dir", "export", "tensorboard")


def parse(arguments: Iterable[str]) -> Settings:
    """Reads flags, flagfiles among them.

    Args:
        arguments: as in `sys.argv`, without the name of the program.

    Returns:
        The settings: `settings.batch_size` and so on.

    Raises:
        SettingsError: something is wrong with them.
    """
    return _completed(TABLE.parse(arguments))


def _completed(settings: Settings) -> Settings:
    _fill_in(settings)
    _check_together(settings)
    if settings.output_dir is None:
        settings.output_dir = _default_folder(settings)
    return settings


def help_text() -> str:
    """All flags, by section, with their defaults."""
    return TABLE.help_text()


def to_text(settings: Settings) -> str:
    """The settings as a flagfile, without the folder: whoever repeats a run wants another one."""
    kept = {name: getattr(settings, name) for name in TABLE.flags if name != "output_dir"}
    lines = (f"--{name}={as_text(value)}" for name, value in kept.items() if value is not None)
    return "\n".join(lines) + "\n"


def difference(settings: Settings, flagfile: Path) -> str | None:
    """Names the first flag in which settings differ from a flagfile, None if there is none.

    Raises:
        SettingsError: If it cannot be read, or has no flags; the message begins with its path.
    """
    try:
        text = read_text(flagfile)
    except ValueError as error:
        raise SettingsError(f"'{flagfile}' {error}.") from error
    if not re.search(r"^\s*-", text, re.MULTILINE):
        raise SettingsError(f"'{flagfile}' has no flags in it.")
    try:
        others = _completed(TABLE.parse_text(text))
    except SettingsError as error:
        raise SettingsError(f"'{flagfile}' is not what a run left there: {error}") from error
    for name in TABLE.flags:
        here, there = getattr(settings, name), getattr(others, name)
        if name not in APART and here != there:
            return f"--{name} is {as_text(there)} there and {as_text(here)} here"
    return None


def _fill_in(settings: Settings) -> None:
    """Gives flags that were left out the values that depend on others."""
    if settings.method == "magnitude":
        if settings.pruning_begin is None:
            settings.pruning_begin = settings.epochs // 2
        if settings.pruning_end is None:
            settings.pruning_end = settings.pruning_begin


def _check_together(settings: Settings) -> None:
    drops, epochs = settings.learning_rate_drops, settings.epochs
    if drops and drops[-1] >= epochs:
        raise SettingsError(
            f"flag --learning_rate_drops={as_text(drops)}: must all be under --epochs={epochs}, "
            "or --learning_rate_drops= for none."
        )
    _check_devices(settings)
    if settings.method == "prunetrain" and settings.interval > epochs:
        raise SettingsError(
            f"flag --interval={settings.interval}: must not be longer than --epochs={epochs}, or "
            "nothing would be removed before the end."
        )
    if settings.method == "magnitude":
        begin, end = settings.pruning_begin, settings.pruning_end
        if not begin <= end < epochs:
            raise SettingsError(
                f"flag --pruning_end={end}: must be from --pruning_begin={begin} to under "
                f"--epochs={epochs}, so that what is left is trained again."
            )


def _check_devices(settings: Settings) -> None:
    strategy, devices = settings.strategy, settings.devices
    if devices and strategy not in _TAKE_DEVICES:
        raise SettingsError(
            f"flag --devices={as_text(devices)}: must be left out with --strategy={strategy}; "
            f"{' and '.join(_TAKE_DEVICES)} take devices."
        )
    if strategy != "none" and settings.method not in _DISTRIBUTED_METHODS:
        raise SettingsError(
            f"flag --strategy={strategy}: must be none with --method={settings.method}, which "
            f"trains on one device; {' and '.join(_DISTRIBUTED_METHODS)} train on several."
        )
    if devices and settings.batch_size % len(devices):
        raise SettingsError(
            f"flag --batch_size={settings.batch_size}: must be a multiple of {len(devices)}, the "
            "number of --devices, which share each batch."
        )


def _default_folder(settings: Settings) -> str:
    dataset = settings.dataset.replace("/", "-").replace(":", "-")
    return f"runs/{dataset}_{settings.model}_{settings.method}_seed{settings.seed}"
