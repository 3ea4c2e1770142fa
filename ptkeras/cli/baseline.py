"""A dense run that a run is compared with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from ptkeras.methods.settings import read_by
from ptkeras.utils.flagging import Settings, SettingsError, as_text


def figures(settings: Settings) -> dict[str, float]:
    """Returns what `result.json` has of the dense run of `--baseline`; nothing without one.

    Raises:
        SettingsError: If that is no finished dense run of the same training.
    """
    if settings.baseline is None:
        return {}
    from ptkeras.report import runs

    try:
        run = runs.read(settings.baseline)
    except ValueError as error:
        raise SettingsError(f"flag --baseline={settings.baseline}: {error}") from error
    wanted = {
        "method": "dense",
        "dataset": settings.dataset,
        "model": settings.model,
        "epochs": settings.epochs,
    }
    for name, value in wanted.items():
        if run.result[name] != value:
            raise SettingsError(
                f"flag --baseline={settings.baseline}: must be a run with --{name}={value}; that "
                f"one has {run.result[name]}."
            )
    return {"dense_accuracy": run.result["accuracy"], "dense_seconds": run.result["seconds"]}


def train(settings: Settings) -> None:
    """With `--compare_dense`, trains the same network dense, beside the run, as `--baseline`.

    It is a process of its own, so that it is the very run that the command would be by itself.

    Raises:
        SettingsError: If it ends with an error.
    """
    if not settings.compare_dense:
        return
    settings.baseline = str(Path(f"{settings.output_dir}_dense"))
    flags = [
        f"--{name}={as_text(getattr(settings, name))}"
        for name in read_by("dense")
        if name not in _NOT_ITS_OWN and getattr(settings, name) not in (None, [])
    ]
    command = [sys.executable, "-m", "ptkeras.train", *flags, "--method=dense"]
    if subprocess.run([*command, f"--output_dir={settings.baseline}"], check=False).returncode:
        raise SettingsError(
            "flag --compare_dense: the dense run has ended with an error, which stands above; mend "
            "that, or leave the flag out."
        )


_NOT_ITS_OWN = ("method", "output_dir", "baseline", "compare_dense", "export")


def dense_pace(rows: list[dict[str, Any]], reconfigurations: list[Any]) -> dict[str, float]:
    """Returns the seconds of an epoch of the dense network within a run, if it has trained two.

    The first epoch, which compiles the step, is left out.

    Args:
        rows: the record's, one for each epoch.
        reconfigurations: those of the run.
    """
    last = reconfigurations[0]["epoch"] if reconfigurations else 0
    seconds = sorted(row["seconds"] for row in rows[1:last])
    return {"dense_epoch_seconds": seconds[len(seconds) // 2]} if seconds else {}
