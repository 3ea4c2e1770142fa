"""The table at the end of a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.table import Table

COMPARED = ("test accuracy", "parameters", "inference FLOPs", "ms")  # of networks, in `networks`
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


def figures(result: dict[str, Any]) -> dict[str, Any]:
    """What runs are compared by, whatever their method.

    Args:
        result: what `train` writes to `result.json`.

    Returns:
        `accuracy`, of the test images; `seconds`, those of a search among them; and pairs, of the
        dense network and of this one: `training_flops`, with a search too; `inference_flops`, where
        gates skip branches the mean of the test images; `params`, where weights are zero those that
        are not.
    """
    dense, now = result["inference_flops"]
    return {
        "accuracy": result["accuracy"],
        "training_flops": result["training_flops"],  # the accounts begin with those of the search
        "inference_flops": [dense, result.get("mean_inference_flops", now)],
        "params": result.get("nonzero_params", result["params"]),
        "seconds": result["seconds"] + result.get("search_seconds", 0.0),
    }


def rows(result: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """The figures of a run as text: what, of the dense network, of this one, the share removed."""
    found = [("test accuracy", "", f"{result['accuracy']:.2%}", "")]

    def add(name: str, key: str, text: Callable[[float], str]) -> None:
        if key in result:
            dense, now = result[key]
            found.append((name, text(dense), text(now), removed(dense, now)))

    add("training FLOPs", "training_flops", large)
    add("inference FLOPs", "inference_flops", large)
    if "mean_inference_flops" in result:
        dense, now = result["inference_flops"][0], result["mean_inference_flops"]
        found.append(("… of an image, in mean", large(dense), large(now), removed(dense, now)))
    if "blocks_run" in result:
        found.append(("residual branches run", "", f"{result['blocks_run']:.1%}", ""))
    add("ms of an image, Keras", "milliseconds_keras", _milliseconds)
    add("ms of an image, onnxruntime", "milliseconds_onnxruntime", _milliseconds)
    add("parameters", "params", whole)
    if result["channels"][1] <= result["channels"][0]:  # rotations have channels of their own
        add("channels", "channels", whole)
    add("memory of a training step", "training_memory", _bytes)
    add("gradient traffic", "gradient_traffic", _bytes)
    if "sparsity" in result:
        found.append(("weights that are zero", "", f"{result['sparsity']:.1%}", ""))
        add("parameters not zero", "nonzero_params", whole)
        add("bytes, raw → gzip", "gzip_bytes", whole)
    found.append(("epochs", str(result.get("dense_epochs", "")), str(result["epochs"]), ""))
    found.append(("seconds", "", whole(figures(result)["seconds"]), ""))
    for name, key in (("search", "search_seconds"), ("prunings", "prune_seconds")):
        if key in result:
            found.append((f"… of the {name}", "", whole(result[key]), ""))
    return found


def comparison(rows: list[dict[str, Any]]) -> Table:
    """Networks beside each other, a row each; inference FLOPs and milliseconds of one image."""
    table = Table(title="one image at a time, in onnxruntime on one thread")
    table.add_column("")
    for name in COMPARED:
        table.add_column(name, justify="right")
    for cells in networks(rows):
        table.add_row(*cells)
    return table


def networks(rows: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Networks as text: the name, and what `COMPARED` says, empty where it was not measured."""

    def cell(row: dict[str, Any], key: str, text: Callable[[float], str]) -> str:
        return "" if row.get(key) is None else text(row[key])

    return [
        (
            row["network"],
            cell(row, "accuracy", "{:.2%}".format),
            cell(row, "params", whole),
            cell(row, "inference_flops", large),
            cell(row, "milliseconds", _milliseconds),
        )
        for row in rows
    ]


def large(value: float) -> str:
    """A number with a prefix: 1.31 T."""
    for size, prefix in _PREFIXES:
        if value >= size:
            return f"{value / size:.2f} {prefix}"
    return f"{value:.0f}"


def removed(dense: float, now: float) -> str:
    """The share that has gone."""
    # Without the sign of a share that is rounded to nothing.
    return f"{round(1 - now / dense, 3) + 0.0:.1%}".replace("-", "−") if dense else ""


def whole(value: float) -> str:
    """A number without decimals: 1,234."""
    return f"{value:,.0f}"


def _milliseconds(value: float) -> str:
    return f"{value:.3f}"


def _bytes(value: float) -> str:
    return f"{large(value)}B"
