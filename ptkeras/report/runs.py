"""Reads what a run has left in its folder."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import reprlib
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ptkeras import _summary
from ptkeras.report import readable
from ptkeras.run_folder import RunFolder


@dataclasses.dataclass(frozen=True)
class Stretch:
    """The layers between two reconfigurations.

    Attributes:
        begin: how many epochs had been trained when it began.
        end: and when it ended.
        channels: the number of channels of each layer, by name.
    """

    begin: int
    end: int
    channels: dict[str, int]


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        path: its folder.
        flags: the values of its flags, as text.
        history: a list of numbers for each column of `history.csv`; NaN where there is none.
        architecture: what is in `architecture.json`.
        norms: what is in `norms.json`, or None.
        result: what is in `result.json`.
    """

    path: Path
    flags: dict[str, str]
    history: dict[str, list[float]]
    architecture: dict[str, Any]
    norms: dict[str, Any] | None
    result: dict[str, Any]

    @property
    def name(self) -> str:
        """That of its folder."""
        return self.path.resolve().name

    @property
    def title(self) -> str:
        """What was trained, and how."""
        return "{dataset}, {model}, {method}".format(**self.result)

    @property
    def figures(self) -> dict[str, Any]:
        """What it is compared with others by: see `ptkeras._summary.figures`."""
        return _summary.figures(self.result)

    @property
    def threshold(self) -> float | None:
        """The sparsity threshold, where the method has one."""
        if self.result["method"] != "prunetrain":
            return None
        return _cell("flags.txt", "threshold", self.flags["threshold"])

    @property
    def reconfigurations(self) -> list[dict[str, Any]]:
        """What `PruneTrain.reconfigurations` held."""
        return self.architecture["reconfigurations"]

    def stretches(self) -> list[Stretch]:
        """The layers over the epochs; the last stretch is that of the finished network."""
        layers = self.architecture["initial"]["layers"]
        epochs = len(self.history["epoch"])
        if not self.reconfigurations:  # whatever was removed, went before the first epoch
            layers = self.architecture.get("final", self.architecture["initial"])["layers"]
        found, begin = [], 0
        for change in self.reconfigurations:
            found.append(Stretch(begin, change["epoch"], layers))
            begin, layers = change["epoch"], {n: pair[1] for n, pair in change["layers"].items()}
        return [*found, Stretch(begin, epochs, layers)]

    def epoch_seconds(self) -> tuple[float, float] | None:
        """Seconds of an epoch of the first network that was trained and of the last: medians.

        The first epoch of each is left out: it compiles the step. None where one has no other.
        """
        networks = [s for s in self.stretches() if s.end > s.begin]
        both = [self.history["seconds"][s.begin + 1 : s.end] for s in (networks[0], networks[-1])]
        return (statistics.median(both[0]), statistics.median(both[1])) if all(both) else None


def read(folder: str | Path) -> Run:
    """Reads a finished run.

    Args:
        folder: the run folder, of `python -m ptkeras.train`.

    Returns:
        The run.

    Raises:
        ValueError: the folder holds no finished run, or one that is damaged.
    """
    files = RunFolder(folder)
    if not files.flags.is_file():
        raise ValueError(
            f"'{folder}' is no run folder: there is no flags.txt in it; name the --output_dir of a "
            "python -m ptkeras.train."
        )
    if not files.finished:
        raise ValueError(
            f"The run in '{folder}' is not finished: the command that began it goes on with it, "
            "and ends with the report."
        )
    try:
        run = Run(
            files.path,
            _flags(files.flags),
            _history(files.history),
            _json(files.architecture),
            _json(files.norms) if files.norms.exists() else None,
            _json(files.result),
        )
        _check(run)
        return run
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(
            f"The run in '{folder}' cannot be read ({error}): one of its files is damaged, or "
            "older than this ptkeras; the command that began it repeats it in another --output_dir."
        ) from error


_FIGURES = ("dataset", "model", "method", "seed", "accuracy", "epochs", "seconds", "training_flops")
_COLUMNS = ("epoch", "accuracy", "loss", "val_accuracy", "inference_flops", "seconds")


def _check(run: Run) -> None:
    """Raises a LookupError or a ValueError that names the file and what is missing or damaged."""
    for file, there, names in _needed(run):
        missing = [name for name in names if not isinstance(there, dict) or name not in there]
        if missing:
            raise LookupError(f"{file} has no {missing[0]}")
    readable.check("result.json", run.result, readable.RESULT)
    readable.check_history(run.history, run.result["epochs"])
    for end in ("initial", "final"):
        readable.check("architecture.json", run.architecture.get(end, {}), readable.NETWORK)
    for change in run.reconfigurations:
        readable.check("architecture.json", change, readable.CHANGE)
    readable.check("norms.json", run.norms or {}, readable.NORMS)
    if not run.stretches()[0].channels:
        raise LookupError("architecture.json has no layers")
    epochs = [0, *(change["epoch"] for change in run.reconfigurations), run.result["epochs"]]
    if epochs != sorted(epochs):
        raise ValueError(f"architecture.json has reconfigurations at the epochs {epochs[1:-1]}")
    if run.threshold is not None and not 0 < run.threshold < math.inf:
        raise ValueError(f"flags.txt has {run.threshold} as threshold")


def _needed(run: Run) -> Iterator[tuple[str, Any, tuple[str, ...]]]:
    """Files, what is in them, and the names that must be in that."""
    yield "result.json", run.result, (*_FIGURES, *readable.COSTS)
    yield "flags.txt", run.flags, ("threshold",) * (run.result["method"] == "prunetrain")
    yield "history.csv", run.history, _COLUMNS
    yield "architecture.json", run.architecture, ("initial", "reconfigurations")
    yield "architecture.json", run.architecture["initial"], ("layers",)
    if "final" in run.architecture:  # older runs have neither that nor multiply-accumulates
        for network in (run.architecture["initial"], run.architecture["final"]):
            yield "architecture.json", network, ("layers", "macs")
    for change in run.reconfigurations:
        yield "architecture.json", change, ("epoch", "layers", "seconds", *readable.COSTS)
    if run.norms is not None:
        yield "norms.json", run.norms, ("lowest", "per_decade", "moments")


def _json(path: Path) -> dict[str, Any]:
    try:
        told = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path.name}: {error}") from error
    if not isinstance(told, dict):
        raise ValueError(f"{path.name} holds no object but {reprlib.repr(told)}")
    return told


def _flags(path: Path) -> dict[str, str]:
    lines = (line[2:] for line in _text(path).splitlines() if line.startswith("--"))
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def _history(path: Path) -> dict[str, list[float]]:
    try:
        rows = list(csv.DictReader(io.StringIO(_text(path), newline="")))
    except csv.Error as error:
        raise ValueError(f"{path.name}: {error}") from error
    if not rows:
        raise ValueError(f"{path.name} has no epochs")
    return {name: [_cell(path.name, name, row[name]) for row in rows] for name in rows[0]}


def _cell(file: str, name: str, text: Any) -> float:
    """A number of a table, NaN for an empty cell."""
    try:
        return math.nan if text == "" else float(text)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{file} has {reprlib.repr(text)} as {name}") from error


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name} is no text") from error
