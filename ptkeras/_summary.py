"""The table at the end of a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.table import Table

_PREFIXES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def show(result: dict[str, Any], console: Console | None = None) -> None:
    """Prints the figures of a run, and the networks that it compares, if it does.

    Args:
        result: what `train` writes to `result.json`.
        console: where to; None for standard output.
    """
    console = console or Console()
    console.print(table(result))
    if "comparison" in result:
        console.print(comparison(result["comparison"]))


def table(result: dict[str, Any]) -> Table:
    """The figures of a run, and, where channels were removed, those of the network before."""
    pruned = result["method"] != "dense"
    table = Table(title=f"{result['dataset']}, {result['model']}, {result['method']}")
    table.add_column("")
    if pruned:
        table.add_column("dense", justify="right")
    table.add_column(result["method"], justify="right")
    if pruned:
        table.add_column("removed", justify="right")
    for name, dense, now, removed in rows(result):
        table.add_row(name, *([dense, now, removed] if pruned else [now]))
    return table


def rows(result: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """The figures of a run as text: what, of the dense network, of this one, the share removed."""
    found = [("test accuracy", "", f"{result['accuracy']:.2%}", "")]

    def add(name: str, key: str, text: Callable[[float], str]) -> None:
        if key in result:
            dense, now = result[key]
            found.append((name, text(dense), text(now), removed(dense, now)))

    add("training FLOPs", "training_flops", large)
    add("inference FLOPs", "inference_flops", large)
    if "blocks_run" in result:
        dense, now = result["inference_flops"][0], result["mean_inference_flops"]
        found.append(("… of an image, in mean", large(dense), large(now), removed(dense, now)))
        found.append(("residual branches run", "", f"{result['blocks_run']:.1%}", ""))
        add("ms of an image, Keras", "milliseconds_keras", _milliseconds)
        add("ms of an image, onnxruntime", "milliseconds_onnxruntime", _milliseconds)
    add("parameters", "params", _whole)
    if result["channels"][1] <= result["channels"][0]:  # rotations have channels of their own
        add("channels", "channels", _whole)
    add("memory of a training step", "training_memory", _bytes)
    add("gradient traffic", "gradient_traffic", _bytes)
    if "sparsity" in result:
        found.append(("weights that are zero", "", f"{result['sparsity']:.1%}", ""))
        add("parameters not zero", "nonzero_params", _whole)
        add("bytes, raw → gzip", "gzip_bytes", _whole)
    found.append(("epochs", "", str(result["epochs"]), ""))
    if "search_seconds" in result:
        found.append(("seconds of the search", "", f"{result['search_seconds']:,.0f}", ""))
    if "prune_seconds" in result:
        found.append(("seconds of the prunings", "", f"{result['prune_seconds']:,.0f}", ""))
    return [*found, ("seconds", "", f"{result['seconds']:,.0f}", "")]


def comparison(rows: list[dict[str, Any]]) -> Table:
    """Networks beside each other, a row each; inference FLOPs and milliseconds of one image."""
    table = Table(title="one image at a time, in onnxruntime on one thread")
    table.add_column("")
    for name in ("test accuracy", "parameters", "inference FLOPs", "ms"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            row["network"],
            f"{row['accuracy']:.2%}",
            f"{row['params']:,}",
            large(row["inference_flops"]),
            f"{row['milliseconds']:.3f}",
        )
    return table


def large(value: float) -> str:
    """A number with a prefix: 1.31 T."""
    for size, prefix in _PREFIXES:
        if value >= size:
            return f"{value / size:.2f} {prefix}"
    return f"{value:.0f}"


def removed(dense: float, now: float) -> str:
    """The share that has gone."""
    # Without the sign of a share that is rounded to nothing.
    return f"{round(1 - now / dense, 3) + 0.0:.1%}" if dense else ""


def _whole(value: float) -> str:
    return f"{value:,.0f}"


def _milliseconds(value: float) -> str:
    return f"{value:.3f}"


def _bytes(value: float) -> str:
    return f"{large(value)}B"
