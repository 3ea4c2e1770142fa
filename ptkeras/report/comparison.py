"""Several runs beside each other."""

from __future__ import annotations

import dataclasses
import io
import itertools
import re
import statistics
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, PercentFormatter
from rich import box
from rich.console import Console, ConsoleOptions
from rich.table import Table
from rich.text import Text

from ptkeras.methods import settings
from ptkeras.report.runs import Run, read
from ptkeras.report.style import LIGHT, MARKERS, styled
from ptkeras.utils.files import aside, check_writable_name, fault_of
from ptkeras.utils.text import large, whole

_WIDE = 110  # characters, for rows of one line
_NAME = re.compile(r".{1,22}$|.{1,22}(?<=[-_./])|.{1,22}")  # lines that end between words
_CAPTION = (
    "\nPercentages are the change from the dense network. Training FLOPs and seconds are with the "
    "search, inference FLOPs the mean of the test images, parameters those that are not zero."
)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Finished runs, beside each other; prints as a table, with a mean over seeds.

    Attributes:
        runs: the runs, in the order in which they were named.
    """

    runs: tuple[Run, ...]

    def groups(self) -> dict[str, list[Run]]:
        """The runs that differ in no more than their seed, by their method and what else differs.

        That is the data set and the network, and those flags in which runs of a method differ.
        """
        one = len({(run.result["dataset"], run.result["model"]) for run in self.runs}) == 1
        kinds: dict[str, list[Run]] = {}
        for run in self.runs:
            kinds.setdefault(run.result["method"] if one else run.title, []).append(run)
        found: dict[str, list[Run]] = {}
        for kind, runs in kinds.items():
            names = _differing(runs)
            for run in runs:
                told = (f"{name}={run.flags.get(name, 'unknown')}" for name in names)
                title = ", ".join([kind, *told])
                found.setdefault(title, []).append(run)
        return found

    def name(self, run: Run) -> str:
        """What a run is called: its folder's name, or path where another has the same name."""
        alone = sum(other.name == run.name for other in self.runs) == 1
        return run.name if alone else str(run.path)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table]:
        """The table, for `rich.print`; where it is narrow, figures of two parts take two lines."""
        wide = options.max_width >= _WIDE
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
        table.caption, table.caption_justify = _CAPTION, "left"
        table.add_column("run", overflow="fold")
        heads = ("seed", "accuracy", "inference\nFLOPs", "training\nFLOPs", "parameters", "seconds")
        for head in heads:
            table.add_column(head, justify="right", no_wrap=True)
            if wide and head not in ("seed", "seconds"):
                table.add_column(no_wrap=True)  # of what stands behind a figure
        for title, runs in self.groups().items():
            table.add_section()
            table.add_row(Text(title, "italic"))
            rows = [(self.name(run), run.result["seed"], [run]) for run in runs]
            rows += [(_mean_of(runs), "", runs)] if len(runs) > 1 else []
            for name, seed, some in rows:
                name = name if wide else "\n".join(_NAME.findall(name))
                pairs = _cells(some)
                lines = ("\n".join(filter(None, pair)) for pair in pairs)
                cells = itertools.chain(*pairs) if wide else lines
                style = "bold" if len(some) > 1 else None
                table.add_row(Text(name), str(seed), *cells, style=style)
        yield table

    def __str__(self) -> str:
        text = io.StringIO()
        Console(file=text, width=140, color_system=None).print(self)
        return text.getvalue()

    def figure(self) -> Figure:
        """The test accuracy against inference and training FLOPs, a point a run."""
        with styled(LIGHT):
            groups = self.groups()
            columns = 1 if max(map(len, groups)) > 45 else 2
            lines = -(-len(groups) // columns)
            figure = Figure((9.0, 3.2 + 0.2 * lines), layout="constrained")
            left, right = figure.subplots(1, 2, sharey=True)
            colours = (LIGHT.blue, LIGHT.orange, LIGHT.green, LIGHT.ink)
            for i, (title, runs) in enumerate(groups.items()):
                # Colours move on by one with each turn of the markers, so that 32 pairs differ.
                colour, marker = colours[(i + i // 8) % 4], MARKERS[i % 8]
                look = {"color": colour, "marker": marker, "linestyle": "none", "clip_on": False}
                for axes, key in ((left, "inference_flops"), (right, "training_flops")):
                    xs = [run.figures[key][1] for run in runs]
                    ys = [run.figures["accuracy"] for run in runs]
                    axes.plot(xs, ys, label=title, markersize=7, alpha=0.8, **look)
            for axes, name in ((left, "inference"), (right, "training")):
                axes.set_xlabel(f"{name} FLOPs")
                axes.set_xlim(left=0)
                axes.xaxis.set_major_formatter(EngFormatter())
            left.set_ylabel("test accuracy")
            left.yaxis.set_major_formatter(PercentFormatter(1))
            handles, labels = left.get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside upper left", ncols=columns)
            return figure

    def plot(self, path: str | Path) -> None:
        """Writes `figure` to a file, as a whole or not at all.

        Args:
            path: its name; the ending says which kind: .png, .svg or .pdf.

        Raises:
            ValueError: it has another ending, or its folder is not there.
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
        folders: the run folders; one that is named twice counts once.

    Returns:
        The comparison.

    Raises:
        ValueError: there are none, or one holds no finished run.
    """
    if isinstance(folders, str | Path):
        raise ValueError(f"compare needs a list of run folders; received '{folders}' alone.")
    once: dict[Path, str | Path] = {}
    for folder in folders:
        once.setdefault(Path(folder).resolve(), folder)
    if not once:
        raise ValueError("compare needs at least one run folder; received none.")
    return Comparison(tuple(map(read, once.values())))


def check_plot(path: str | Path) -> None:
    """Raises a ValueError unless a plot can be written by that name."""
    if Path(path).suffix.lower() not in (".png", ".svg", ".pdf"):
        raise ValueError(f"The name of a plot must end in .png, .svg or .pdf; received '{path}'.")
    if fault_of(Path(path).parent) != "is a folder":
        raise ValueError(
            f"The plot cannot be written to '{path}': there is no folder '{Path(path).parent}'; "
            "make it, or name another."
        )
    try:
        check_writable_name(Path(path))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"The plot cannot be written to '{path}' ({getattr(error, 'strerror', error)}): choose "
            "another name."
        ) from error
    if fault_of(Path(path)) == "is a folder":
        raise ValueError(f"The plot cannot be written to '{path}', which is a folder: name a file.")


def _mean_of(runs: Sequence[Run]) -> str:
    """What the mean of some runs is called; of one seed they spread less than training does."""
    seeds = {run.result["seed"] for run in runs}
    few = f", {len(seeds)} seed{'s' * (len(seeds) > 1)}" if len(seeds) < len(runs) else ""
    return f"mean of {len(runs)}{few}"


def _differing(runs: Sequence[Run]) -> list[str]:
    """The flags in which runs of one method differ, but for those that change no figure."""
    apart = (name for name, flag in settings.table().flags.items() if flag.is_apart)
    repeats = {"seed", "data_dir", *apart}  # flags in which runs may differ whose mean is taken
    names = [name for name in settings.read_by(runs[0].result["method"]) if name not in repeats]
    # A run of before may lack a flag: nobody knows whether it is a repetition of the others.
    return [name for name in names if len({run.flags.get(name) for run in runs}) > 1]


def _cells(runs: Sequence[Run]) -> list[tuple[str, ...]]:
    """The figures of a run, or the means of several.

    Behind the accuracy is its spread, and behind what the dense network has too the change.
    """
    accuracies = [run.figures["accuracy"] for run in runs]
    spread = f"± {100 * statistics.stdev(accuracies):.2f}" if len(runs) > 1 else ""
    cells = [(f"{statistics.mean(accuracies):.2%}", spread)]
    keys = {
        "inference_flops": large,
        "training_flops": large,
        "params": whole,
    }
    for key, text in keys.items():
        dense, now = (statistics.mean(run.figures[key][i] for run in runs) for i in (0, 1))
        change = round(now / dense - 1, 2) if dense else 0.0
        cells.append((text(now), f"{change:+.0%}".replace("-", "−") if change else ""))
    return [*cells, (whole(statistics.mean(run.figures["seconds"] for run in runs)),)]
