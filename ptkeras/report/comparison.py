"""Several runs beside each other."""

from __future__ import annotations

import dataclasses
import io
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, PercentFormatter
from rich.console import Console
from rich.table import Table

from ptkeras import _summary
from ptkeras._files import aside
from ptkeras.report.runs import Run, read
from ptkeras.report.style import LIGHT, MARKERS, styled


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Finished runs, of one method with different seeds or of several methods; prints as a table.

    Attributes:
        runs: the runs, those of the same data set, network and method behind each other.
    """

    runs: tuple[Run, ...]

    def groups(self) -> dict[str, list[Run]]:
        """The runs by their method, and by data set and network where those differ too."""
        one = len({(run.result["dataset"], run.result["model"]) for run in self.runs}) == 1
        found: dict[str, list[Run]] = {}
        for run in self.runs:
            found.setdefault(run.result["method"] if one else run.title, []).append(run)
        return found

    def __rich__(self) -> Table:
        """The table, for `rich.print`."""
        table = Table()
        for head in ("run", "method"):
            table.add_column(head, overflow="fold")
        heads = ("seed", "accuracy", "inference FLOPs", "training FLOPs", "parameters", "seconds")
        for head in heads:
            table.add_column(head, justify="right", overflow="fold")
        for title, runs in self.groups().items():
            table.add_section()
            for run in runs:
                table.add_row(run.name, title, str(run.result["seed"]), *_cells([run]))
            if len(runs) > 1:
                table.add_row(f"mean of {len(runs)}", title, "", *_cells(runs), style="bold")
        return table

    def __str__(self) -> str:
        console = Console(file=io.StringIO(), width=140, color_system=None)
        console.print(self)
        return console.file.getvalue()

    def figure(self) -> Figure:
        """The test accuracy against inference and training FLOPs, a point a run."""
        with styled(LIGHT):
            figure = Figure((9.0, 3.6), layout="constrained")
            left, right = figure.subplots(1, 2, sharey=True)
            colours = (LIGHT.blue, LIGHT.orange, LIGHT.green, LIGHT.ink)
            for i, (title, runs) in enumerate(self.groups().items()):
                look = {"color": colours[i % 4], "marker": MARKERS[i % 8], "linestyle": "none"}
                for axes, key in ((left, "inference_flops"), (right, "training_flops")):
                    xs = [run.result[key][1] for run in runs]
                    ys = [run.result["accuracy"] for run in runs]
                    axes.plot(xs, ys, label=title, markersize=7, alpha=0.8, **look)
            for axes, name in ((left, "inference"), (right, "training")):
                axes.set_xlabel(f"{name} FLOPs")
                axes.set_xlim(left=0)
                axes.xaxis.set_major_formatter(EngFormatter())
            left.set_ylabel("test accuracy")
            left.yaxis.set_major_formatter(PercentFormatter(1))
            figure.legend(*left.get_legend_handles_labels(), loc="outside upper left", ncols=2)
            return figure

    def plot(self, path: str | Path) -> None:
        """Writes `figure` to a file, as a whole or not at all.

        Args:
            path: its name; the ending says which kind: .png, .svg or .pdf.

        Raises:
            ValueError: it has another ending.
        """
        check_plot(path)
        with aside(Path(path)) as new, styled(LIGHT):
            self.figure().savefig(new, dpi=150)


def compare(folders: Iterable[str | Path]) -> Comparison:
    """Reads finished runs, to be shown beside each other.

    ```python
    comparison = ptkeras.report.compare(["runs/a", "runs/b"])
    print(comparison)
    comparison.plot("comparison.png")
    ```

    Args:
        folders: the run folders.

    Returns:
        The comparison.

    Raises:
        ValueError: there are none, or one holds no finished run.
    """
    runs = [read(folder) for folder in folders]
    if not runs:
        raise ValueError("compare needs at least one run folder; received none.")
    return Comparison(tuple(runs))


def check_plot(path: str | Path) -> None:
    """Raises a ValueError unless a plot can be written by that name."""
    if Path(path).suffix not in (".png", ".svg", ".pdf"):
        raise ValueError(f"The name of a plot must end in .png, .svg or .pdf; received '{path}'.")


def _cells(runs: Sequence[Run]) -> list[str]:
    """The figures of a run, or the means of several, and the spread of their accuracies."""
    accuracies = [run.result["accuracy"] for run in runs]
    accuracy = f"{statistics.mean(accuracies):.2%}"
    if len(runs) > 1:
        accuracy += f" ± {100 * statistics.stdev(accuracies):.2f}"
    cells = [accuracy]
    for key in ("inference_flops", "training_flops"):
        dense, now = (statistics.mean(run.result[key][i] for run in runs) for i in (0, 1))
        cells.append(f"{_summary.large(now)} (removed {_summary.removed(dense, now)})")
    cells.append(f"{statistics.mean(run.result['params'][1] for run in runs):,.0f}")
    cells.append(f"{statistics.mean(run.result['seconds'] for run in runs):,.0f}")
    return cells
