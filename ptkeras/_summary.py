"""The table at the end of a run."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

_PREFIXES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def show(result: dict[str, Any], console: Console | None = None) -> None:
    """Prints the figures of a run.

    Args:
        result: what `train` writes to `result.json`.
        console: where to; None for standard output.
    """
    (console or Console()).print(table(result))


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

    def add(name: str, now: str, dense: str = "", removed: str = "") -> None:
        table.add_row(name, *([dense, now, removed] if pruned else [now]))

    add("test accuracy", f"{result['accuracy']:.2%}")
    for name, key in (("training FLOPs", "training_flops"), ("inference FLOPs", "inference_flops")):
        dense, now = result[key]
        add(name, _large(now), _large(dense), _removed(dense, now))
    for name in ("params", "channels"):
        dense, now = result[name]
        if name == "channels" and now > dense:
            continue  # the rotations of EigenDamage have channels of their own
        add(
            {"params": "parameters"}.get(name, name), f"{now:,}", f"{dense:,}", _removed(dense, now)
        )
    if "sparsity" in result:
        add("weights that are zero", f"{result['sparsity']:.1%}")
        dense, now = result["nonzero_params"]
        add("parameters not zero", f"{now:,}", f"{dense:,}", _removed(dense, now))
        raw, compressed = result["gzip_bytes"]
        add("bytes, raw → gzip", f"{compressed:,}", f"{raw:,}", _removed(raw, compressed))
    add("epochs", str(result["epochs"]))
    if "search_seconds" in result:
        add("seconds of the search", f"{result['search_seconds']:,.0f}")
    if "prune_seconds" in result:
        add("seconds of the prunings", f"{result['prune_seconds']:,.0f}")
    add("seconds", f"{result['seconds']:,.0f}")
    return table


def _large(value: float) -> str:
    for size, prefix in _PREFIXES:
        if value >= size:
            return f"{value / size:.2f} {prefix}"
    return f"{value:.0f}"


def _removed(dense: float, now: float) -> str:
    return f"{1 - now / dense:.1%}" if dense else ""
