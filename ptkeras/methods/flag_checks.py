"""Checks of the flags of a run together."""

from __future__ import annotations

from ptkeras import methods
from ptkeras.utils.flagging import Settings, SettingsError, as_text

_TAKE_DEVICES = ("mirrored", "data_parallel")


def complete(settings: Settings) -> None:
    """Gives flags that were left out the values that depend on others, and checks all together.

    Raises:
        SettingsError: If they do not go together.
    """
    _check_drops(settings)
    _check_devices(settings)
    _check_baseline(settings)
    methods.get(settings.method).complete(settings)
    if settings.output_dir is None:
        settings.output_dir = _default_folder(settings)


def _check_drops(settings: Settings) -> None:
    drops, epochs = settings.learning_rate_drops, settings.epochs
    if drops and settings.schedule != "steps":
        raise SettingsError(
            f"flag --learning_rate_drops={as_text(drops)}: is for --schedule=steps, and "
            f"{settings.schedule} has none; leave it out."
        )
    if settings.warmup_epochs and settings.schedule == "one_cycle":
        raise SettingsError(
            f"flag --warmup_epochs={settings.warmup_epochs}: one_cycle rises by itself; leave it "
            "out."
        )
    if settings.warmup_epochs >= epochs:
        raise SettingsError(
            f"flag --warmup_epochs={settings.warmup_epochs}: must be under --epochs={epochs}."
        )
    if drops and drops[0] < 1:
        drops = sorted({min(max(1, round(share * epochs)), epochs - 1) for share in drops} - {0})
        settings.learning_rate_drops = drops
    if drops and drops[-1] >= epochs:
        raise SettingsError(
            f"flag --learning_rate_drops={as_text(drops)}: must all be under --epochs={epochs}, "
            "or --learning_rate_drops= for none."
        )


def _check_baseline(settings: Settings) -> None:
    if settings.baseline is not None and settings.method == "dense":
        raise SettingsError("flag --baseline: must be left out with --method=dense.")
    if not settings.compare_dense:
        return
    if settings.baseline is not None:
        raise SettingsError(
            "flag --compare_dense: trains the baseline, and --baseline names one; leave one out."
        )
    if settings.method == "dense":
        raise SettingsError("flag --compare_dense: must be left out with --method=dense.")
    if settings.strategy != "none":
        raise SettingsError(
            f"flag --compare_dense: trains on one device; with --strategy={settings.strategy} "
            "train --method=dense by a command of its own, and name its run as --baseline."
        )


def _check_devices(settings: Settings) -> None:
    strategy, devices = settings.strategy, settings.devices
    if devices and strategy not in _TAKE_DEVICES:
        raise SettingsError(
            f"flag --devices={as_text(devices)}: must be left out with --strategy={strategy}; "
            f"{' and '.join(_TAKE_DEVICES)} take devices."
        )
    if strategy != "none" and not methods.get(settings.method).is_distributed:
        raise SettingsError(
            f"flag --strategy={strategy}: must be none with --method={settings.method}, which "
            f"trains on one device; {' and '.join(methods.distributed())} train on several."
        )
    if devices and settings.batch_size % len(devices):
        raise SettingsError(
            f"flag --batch_size={settings.batch_size}: must be a multiple of {len(devices)}, the "
            "number of --devices, which share each batch."
        )


def _default_folder(settings: Settings) -> str:
    name = f"{settings.dataset}_{settings.model}_{settings.method}_seed{settings.seed}"
    return "runs/" + name.replace("/", "-").replace(":", "-")
