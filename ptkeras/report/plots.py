"""The plots of one run."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator, PercentFormatter

from ptkeras.report.style import DASHES, PAGE

if TYPE_CHECKING:
    from ptkeras.report.runs import Run

WIDTH = 9.0  # inches
STRONGEST = 0.5  # opacity of a cell of the heat map: ink stands out from it, in light and dark
ROW = 0.19  # of one layer
_DIGIT = 0.008  # of the width of a plot, of a small number
_SERIES = (PAGE.blue, PAGE.orange, PAGE.green)


def learning(run: Run) -> Figure:
    """Accuracy and loss over the epochs, with the reconfigurations."""
    figure = Figure((WIDTH, 3.0), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2), ("accuracy", "loss"), strict=True):
        _over_epochs(axes, run, {"training": name, "test": f"val_{name}"})
        axes.set_title(name)
        axes.legend(loc="best")
    figure.axes[0].yaxis.set_major_formatter(PercentFormatter(1))
    if any(lasso > 0 for lasso in run.history.get("lasso", ())):
        figure.axes[1].set_title("loss, with the lasso")
    return figure


def flops(run: Run) -> Figure:
    """Inference FLOPs over the epochs, and the test accuracy against them."""
    figure = Figure((WIDTH, 3.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    epochs, history = run.history["epoch"], run.history
    look = {"color": PAGE.blue, "marker": marker(run)}
    left.step(epochs, history["inference_flops"], where="mid", **look)
    left.set_title("inference FLOPs of an image")
    _mark_reconfigurations(left, run)
    right.plot(
        history["inference_flops"],
        history["val_accuracy"],
        color=PAGE.blue,
        linewidth=0.7,
        marker="o",
        markersize=2.5,
    )
    accuracy, (_, final) = run.result["accuracy"], run.figures["inference_flops"]
    for axes, x, y in ((left, len(epochs) + 0.5, final), (right, final, accuracy)):
        star = axes.plot([x], [y], "*", markersize=12, color=PAGE.orange, label="at the end")
    left.set_ylim(bottom=0)
    right.set_xlim(left=0)
    right.set_title("test accuracy against inference FLOPs, a point an epoch")
    right.set_xlabel("inference FLOPs")
    right.yaxis.set_major_formatter(PercentFormatter(1))
    figure.legend(handles=star, loc="outside upper right")  # no point may lie under it
    left.yaxis.set_major_formatter(EngFormatter())
    right.xaxis.set_major_formatter(EngFormatter())
    return figure


def share(run: Run, column: str) -> Figure:
    """A share over the epochs.

    Args:
        run: the run.
        column: its column of `history.csv`.
    """
    figure = Figure((WIDTH, 2.4), layout="constrained")
    axes = figure.subplots()
    look = {"color": PAGE.blue, "marker": marker(run)}
    axes.step(run.history["epoch"], run.history[column], where="mid", **look)
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch")
    return figure


def heat_map(run: Run) -> Figure:
    """Each layer's channels over time: the stronger the colour, the more of them are left."""
    layers = run.architecture["initial"]["layers"]
    stretches, epochs = run.stretches(), len(run.history["epoch"])
    behind, end = 1.01 * epochs, 1.07 * epochs  # behind the training: the finished network
    figure = Figure((WIDTH, ROW * len(layers) + 0.7), layout="constrained")
    axes = figure.subplots()
    for y, (name, full) in enumerate(layers.items()):
        cells: list[tuple[float, float, int]] = []
        for stretch in stretches:
            count = stretch.channels.get(name, 0)
            if cells and cells[-1][2] == count:
                cells[-1] = (cells[-1][0], stretch.end, count)
            elif stretch.end > stretch.begin:
                cells.append((stretch.begin, stretch.end, count))
        cells.append((behind, end, stretches[-1].channels.get(name, 0)))
        for begin, stop, count in cells:
            share = min(1.0, count / full) if full else 0.0  # some methods widen a layer
            strength = STRONGEST * share
            axes.barh(
                y, stop - begin, 0.9, left=begin, color=PAGE.blue, alpha=strength, linewidth=0
            )
            if (stop - begin) / end > _DIGIT * len(str(count)):  # a number has to fit its cell
                axes.text((begin + stop) / 2, y, f"{count}", size=6.5, ha="center", va="center")
    name_rows(axes, list(layers))
    axes.set_xlim(0, end)
    axes.grid(False)
    ticks = MaxNLocator(integer=True).tick_values(0, epochs)
    axes.set_xticks([tick for tick in ticks if tick <= epochs])
    axes.set_xlabel("epochs trained (behind the gap: the finished network)")
    return figure


def layers(run: Run) -> Figure:
    """Each layer's channels and multiply-accumulates, in the first network and in the last."""
    first, last = run.architecture["initial"], run.architecture["final"]
    names = list(dict.fromkeys([*first["macs"], *first["layers"], *last["macs"], *last["layers"]]))
    figure = Figure((WIDTH, ROW * len(names) + 0.9), layout="constrained")
    pairs = (first["layers"], last["layers"]), (first["macs"], last["macs"])
    for axes, pair in zip(figure.subplots(1, 2, sharey=True), pairs, strict=True):
        ys = range(len(names))
        before, after = ([counts.get(name, 0) for name in names] for counts in pair)
        axes.barh(ys, before, 0.8, fill=False, edgecolor=PAGE.ink, linewidth=0.7, label="before")
        axes.barh(ys, after, 0.8, color=PAGE.blue, label="after")
        axes.grid(axis="y", visible=False)
        axes.xaxis.set_major_formatter(EngFormatter())
    figure.axes[0].set_title("channels")
    figure.axes[1].set_title("multiply-accumulates of an image")
    figure.legend(*figure.axes[1].get_legend_handles_labels(), loc="outside upper right", ncols=2)
    name_rows(figure.axes[0], names)
    return figure


def norms(run: Run) -> Figure:
    """How many channels have which magnitude, at the start, in the middle and at the end."""
    told = run.norms
    if told is None:
        raise ValueError(f"The run in '{run.path}' has no norms.json.")
    figure = Figure((WIDTH, 3.0), layout="constrained")
    axes = figure.subplots()
    lowest, step = told["lowest"], 1 / told["per_decade"]
    used = [i for moment in told["moments"] for i, n in enumerate(moment["counts"]) if n]
    first, last = min(used, default=0), max(used, default=0)
    for i, moment in enumerate(told["moments"]):
        edges = [10 ** (lowest + step * k) for k in range(first, last + 2)]
        counts = moment["counts"][first : last + 1]
        label = f"{moment['name']} (epoch {moment['epoch']}, {sum(moment['counts']):,} channels)"
        color, dash = _SERIES[i % 3], DASHES[i % 3]
        axes.stairs(counts, edges, label=label, linewidth=1.6, color=color, linestyle=dash)
    if run.threshold is not None:
        axes.axvline(run.threshold, color=PAGE.ink, linewidth=1.0)
        axes.annotate(
            f" threshold {run.threshold:g}", (run.threshold, 1), va="top", color=PAGE.ink,
            xycoords=("data", "axes fraction"),
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_ylabel("channels")
    axes.set_xlabel(
        "magnitude of a channel: of its groups the largest "
        + ("mean absolute weight" if run.flags.get("measure") == "mean" else "absolute weight")
    )
    axes.legend(loc="best")
    return figure


def _over_epochs(axes: Axes, run: Run, columns: dict[str, str]) -> None:
    for i, (label, name) in enumerate(columns.items()):
        values = run.history.get(name, [])
        if any(map(math.isfinite, values)):
            look: dict[str, Any] = {"linestyle": DASHES[i], "marker": marker(run)}
            axes.plot(run.history["epoch"], values, label=label, color=_SERIES[i], **look)
    _mark_reconfigurations(axes, run)


def _mark_reconfigurations(axes: Axes, run: Run) -> None:
    alpha = 0.5 if len(run.reconfigurations) < 40 else 0.15  # curves show through
    look: dict[str, Any] = {"color": PAGE.ink, "linewidth": 0.7, "zorder": 1, "alpha": alpha}
    for i, change in enumerate(run.reconfigurations):
        axes.axvline(change["epoch"] + 0.5, label=None if i else "reconfiguration", **look)
    axes.set_xlabel("epoch")
    if len(run.history["epoch"]) == 1:
        axes.set_xlim(0, 2)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def marker(run: Run) -> str | None:
    """What marks the points of lines over the epochs: those of one epoch have no length."""
    return "o" if len(run.history["epoch"]) == 1 else None


def name_rows(axes: Axes, names: list[str]) -> None:
    """Names the rows of a plot, from the top."""
    # A dollar sign would begin a formula.
    axes.set_yticks(range(len(names)), [name.replace("$", r"\$") for name in names], size=7)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
