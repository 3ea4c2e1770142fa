"""A dense run that a run is compared with."""

from __future__ import annotations

import signal
import statistics
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from ptkeras.methods.settings import read_by
from ptkeras.utils.flagging import Settings, SettingsError, as_text

# What a dense run beside a run may have of its own.
_APART = ("method", "output_dir", "baseline", "compare_dense", "export")
_MAY_DIFFER = (*_APART, "seed", "data_dir", "tensorboard", "strategy", "devices")


def figures(settings: Settings) -> dict[str, float]:
    """Returns what `result.json` has of the dense run of `--baseline`; nothing without one.

    Raises:
        SettingsError: If that is no finished dense run with the same flags.
    """
    if settings.baseline is None:
        return {}
    from ptkeras.report import runs

    try:
        run = runs.read(settings.baseline)
    except ValueError as error:
        raise SettingsError(f"flag --baseline={settings.baseline}: {error}") from error
    if run.method.is_pruning:
        raise SettingsError(
            f"flag --baseline={settings.baseline}: must be a run with --method=dense; that one has "
            f"{run.result['method']}."
        )
    for name in read_by("dense"):
        here = as_text(getattr(settings, name))
        if name not in _MAY_DIFFER and run.flags.get(name, here) != here:
            raise SettingsError(
                f"flag --baseline={settings.baseline}: must be a run with --{name}={here}; that "
                f"one has {run.flags[name]}."
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
    settings.baseline = f"{Path(settings.output_dir)}_dense"
    flags = [
        f"--{name}={as_text(getattr(settings, name))}"
        for name in read_by("dense")
        if name not in _APART and getattr(settings, name) not in (None, [])
    ]
    command = [sys.executable, "-m", "ptkeras.train", *flags, "--method=dense"]
    if _run([*command, f"--output_dir={settings.baseline}"]):
        raise SettingsError(
            "flag --compare_dense: the dense run has ended with an error, which stands above; mend "
            "that, or leave the flag out."
        )


def _run(command: list[str]) -> int:
    """Runs a command, which gets the SIGTERM that this process gets, and saves what it has."""
    process = subprocess.Popen(command)
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, _stop) if is_main else None
    try:
        return process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    finally:
        if is_main:
            signal.signal(signal.SIGTERM, before)


def _stop(number: int, frame: object) -> None:
    stop = KeyboardInterrupt("Stopped in the dense run; the same command goes on with it.")
    stop.signal = number  # type: ignore[attr-defined]
    raise stop


def dense_estimate(rows: list[dict[str, Any]], reconfigurations: list[Any]) -> dict[str, float]:
    """Returns the seconds that a run would take if all epochs were like its dense ones.

    The first epoch compiles the step, and counts as it was; the others as their median. Nothing if
    a run has no two epochs before its first reconfiguration.

    Args:
        rows: the record's, one for each epoch.
        reconfigurations: those of the run.
    """
    last = reconfigurations[0]["epoch"] if reconfigurations else 0
    if last < 2:
        return {}
    pace = statistics.median(row["seconds"] for row in rows[1:last])
    return {"dense_estimate": round(rows[0]["seconds"] + pace * (len(rows) - 1), 1)}
