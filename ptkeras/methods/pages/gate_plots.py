"""The plots of what gates decide."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from ptkeras.report.plots import ROW, WIDTH, name_rows, share
from ptkeras.report.style import PAGE
from ptkeras.utils.text import percent

if TYPE_CHECKING:
    from ptkeras.report.runs import Run

_LABELLED = 20  # so many bars have room for a number each
_PANELS = {
    "blocks_run_by_block": "test images that take the branch of a block",
    "blocks_run_by_class": "branches that the images of a class take",
}


def branches_run(run: Run) -> Figure:
    """Who takes which branch: of each block the share of images, of each class that of branches."""
    panels = {key: run.result[key] for key in _PANELS if run.result.get(key)}
    longest = max(map(len, panels.values()))
    figure = Figure((WIDTH, ROW * longest + 0.4), layout="constrained")
    for axes, (key, shares) in zip(_columns(figure, len(panels)), panels.items(), strict=True):
        axes.set_title(_PANELS[key])
        _bars_of_shares(axes, shares)
        axes.set_ylim(longest - 0.5, -0.5)  # bars are as wide in one as in the other
    return figure


def images_by_branches(run: Run) -> Figure:
    """How many images take how many branches."""
    shares = {int(n): share for n, share in run.result["images_by_blocks_run"].items()}
    gates, _ = run.result.get("gates", (max(shares), 0))
    figure = Figure((WIDTH, 2.4), layout="constrained")
    axes = figure.subplots()
    bars = axes.bar([*shares], [*shares.values()], 0.8, color=PAGE.blue)
    if len(shares) <= _LABELLED:
        axes.bar_label(bars, [*map(percent, shares.values())], padding=2)
    axes.set_xlim(-0.5, max(gates, *shares) + 0.5)
    axes.margins(y=0.12)
    axes.grid(axis="x", visible=False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_title("test images, by the number of branches that they take")
    axes.set_xlabel(f"branches, of {gates}" if "gates" in run.result else "branches")
    return figure


def branches_over_epochs(run: Run) -> Figure:
    """The share of branches that test images take over the epochs, and where stages part."""
    figure = share(run, "blocks_run")
    [axes] = figure.axes
    for _, end in stages(run)[:-1]:
        axes.axvline(end + 0.5, color=PAGE.ink, linewidth=0.7, alpha=0.5)
    axes.set_ylim(0, 1.05)
    axes.set_title("branches that the test images take")
    return figure


def stages(run: Run) -> list[tuple[str, int]]:
    """Returns the stages of the training, and the epoch that each ends with.

    Args:
        run: a run with gates.

    Returns:
        Pairs in order; none if the flags do not say, or speak of other epochs than there are.
    """
    try:
        lengths = run.method.stages(run.flags)
    except (LookupError, ValueError):
        return []
    ends = itertools.accumulate(lengths.values())
    found = [(name, end) for (name, n), end in zip(lengths.items(), ends, strict=True) if n > 0]
    return found if found and found[-1][1] == len(run.history["epoch"]) else []


def _columns(figure: Figure, count: int) -> list[Axes]:
    return list(figure.subplots(1, count, squeeze=False)[0])


def _bars_of_shares(axes: Axes, shares: dict[str, float]) -> None:
    ys = range(len(shares))
    axes.barh(ys, [1] * len(ys), 0.8, fill=False, edgecolor=PAGE.ink, linewidth=0.7)
    axes.barh(ys, [*shares.values()], 0.8, color=PAGE.blue)
    for y, part in zip(ys, shares.values(), strict=True):
        axes.text(1.02, y, percent(part), size=7, va="center")
    name_rows(axes, [*shares])
    axes.set_xlim(0, 1.15)
    axes.set_xticks([])
    axes.grid(False)
    axes.spines[:].set_visible(False)
