"""Reads what a run has left in its folder."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import os
import reprlib
import statistics
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptkeras import methods
from ptkeras.report import summary
from ptkeras.runs import schema
from ptkeras.runs.run_folder import RunFolder
from ptkeras.runs.schema import Architecture, Norms
from ptkeras.utils.files import fault_of, read_text

if TYPE_CHECKING:
    from ptkeras.prunetrain import Reconfiguration


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
    architecture: Architecture
    norms: Norms | None
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
    def method(self) -> methods.Method:
        """What the library knows of its method."""
        return methods.find(self.result["method"])

    @property
    def figures(self) -> dict[str, Any]:
        """What it is compared with others by: see `ptkeras.report.summary.figures`."""
        return summary.figures(self.result)

    @property
    def threshold(self) -> float | None:
        """The sparsity threshold, where the method has one."""
        flag = self.method.threshold
        if flag is None or not self.method.has_threshold(self.flags):
            return None
        return _cell("flags.txt", "threshold", self.flags[flag])

    @property
    def reconfigurations(self) -> list[Reconfiguration]:
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
    flags_fault = fault_of(files.flags)
    if flags_fault and not files.holds_a_run():
        raise ValueError(
            f"'{folder}' is no run folder: there is no flags.txt in it; name the --output_dir of a "
            "python -m ptkeras.train."
        )
    if flags_fault:
        raise ValueError(f"'{files.flags}' {flags_fault}. {_MEND_FLAGS}")
    if not files.finished:
        raise ValueError(
            f"The run in '{folder}' is not finished, since there is no result.json in it: the "
            "command that began it goes on with it, and ends with the report."
        )
    flags = _flags(files.flags)
    norms_too = [files.norms] if os.path.lexists(files.norms) else []
    files.check_whole(files.result, files.history, files.architecture, *norms_too)
    try:
        result = _json(files.result)
        _check_result(result)
        history, architecture = _history(files.history), _json(files.architecture)
        norms = _json(files.norms) if norms_too else None
        run = Run(files.path, flags, history, architecture, norms, result)
        _check(run)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise _unreadable(files, error) from error
    _check_threshold(run)
    return run


def check_result(folder: str | Path, result: dict[str, Any]) -> None:
    """Finds out whether the figures of a run are such as a run leaves.

    Args:
        folder: the run folder.
        result: what is in its `result.json`.

    Raises:
        ValueError: If they are not.
    """
    try:
        _check_result(result)
    except (ValueError, LookupError) as error:
        raise _unreadable(RunFolder(folder), error) from error


def _unreadable(files: RunFolder, error: Exception) -> ValueError:
    return ValueError(
        f"The run in '{files.path}' cannot be read ({error}): one of its files is damaged, or "
        f"older than this ptkeras. {files.remedy()}"
    )


def _check_result(result: dict[str, Any]) -> None:
    _check_names("result.json", result, (*_FIGURES, *schema.COSTS))
    schema.check("result.json", result, schema.forms_of(schema.FIELDS))
    schema.check("result.json", result, schema.forms_of(methods.find(result["method"]).fields))


def _check_names(file: str, there: Any, names: Iterable[str]) -> None:
    missing = [name for name in names if not isinstance(there, dict) or name not in there]
    if missing:
        raise LookupError(f"{file} has no {missing[0]}")


_MEND_FLAGS = (
    "Put it back, or write the flags of that run into it, one --name=value a line; or name another "
    "folder."
)
_FIGURES = ("dataset", "model", "method", "seed", "accuracy", "epochs", "seconds", "training_flops")
_COLUMNS = ("epoch", "accuracy", "loss", "val_accuracy", "inference_flops", "seconds")


def _check(run: Run) -> None:
    """Raises a LookupError or a ValueError that names the file and what is missing or damaged."""
    for file, there, names in _needed(run):
        _check_names(file, there, names)
    schema.check_history(run.history, run.result["epochs"])
    for network in (run.architecture["initial"], run.architecture.get("final", {})):
        schema.check("architecture.json", network, schema.NETWORK)
    for change in run.reconfigurations:
        schema.check("architecture.json", change, schema.CHANGE)
    schema.check("norms.json", run.norms or {}, schema.NORMS)
    if not run.stretches()[0].channels:
        raise LookupError("architecture.json has no layers")
    epochs = [0, *(change["epoch"] for change in run.reconfigurations), run.result["epochs"]]
    if epochs != sorted(epochs):
        raise ValueError(f"architecture.json has reconfigurations at the epochs {epochs[1:-1]}")


def _check_threshold(run: Run) -> None:
    """Raises a ValueError unless `flags.txt` has a threshold, where the method has one."""
    try:
        if run.threshold is not None and not 0 < run.threshold < math.inf:
            raise ValueError(f"flags.txt has {run.threshold} as threshold")
    except (ValueError, LookupError) as error:
        fault = "flags.txt has no threshold" if isinstance(error, LookupError) else error
        raise ValueError(
            f"The run in '{run.path}' cannot be read: {fault}. {_MEND_FLAGS}"
        ) from error


def _needed(run: Run) -> Iterator[tuple[str, Any, tuple[str, ...]]]:
    """Files, what is in them, and the names that must be in that."""
    yield "history.csv", run.history, _COLUMNS
    yield "architecture.json", run.architecture, ("initial", "reconfigurations")
    yield "architecture.json", run.architecture["initial"], ("layers",)
    if "final" in run.architecture:  # older runs have neither that nor multiply-accumulates
        for network in (run.architecture["initial"], run.architecture["final"]):
            yield "architecture.json", network, ("layers", "macs")
    for change in run.reconfigurations:
        yield "architecture.json", change, ("epoch", "layers", "seconds", *schema.COSTS)
    if run.norms is not None:
        yield "norms.json", run.norms, ("lowest", "per_decade", "moments")


def _json(path: Path) -> Any:
    """The object that a file holds; `_check` finds out whether it is one of a run."""
    try:
        told = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path.name}: {error}") from error
    if not isinstance(told, dict):
        raise ValueError(f"{path.name} holds no object but {reprlib.repr(told)}")
    return told


def _flags(path: Path) -> dict[str, str]:
    try:
        text = read_text(path)
    except ValueError as error:
        raise ValueError(f"'{path}' {error}. {_MEND_FLAGS}") from error
    lines = (line[2:] for line in text.splitlines() if line.startswith("--"))
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
        return read_text(path)
    except ValueError as error:
        raise ValueError(f"{path.name} {error}") from error
