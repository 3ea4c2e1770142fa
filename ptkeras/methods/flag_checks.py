"""Checks of the flags of a run together."""

from __future__ import annotations

from ptkeras.utils.flagging import Settings, SettingsError, as_text

_TAKE_DEVICES = ("mirrored", "data_parallel")
_DISTRIBUTED_METHODS = ("dense", "prunetrain")


def complete(settings: Settings) -> None:
    """Gives flags that were left out the values that depend on others, and checks all together.

    Raises:
        SettingsError: If they do not go together.
    """
    _fill_in(settings)
    _check_together(settings)
    if settings.output_dir is None:
        settings.output_dir = _default_folder(settings)


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
