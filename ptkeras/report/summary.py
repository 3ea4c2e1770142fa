"""The table at the end of a run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table

from ptkeras import methods
from ptkeras.runs.schema import FIELDS, Field
from ptkeras.utils.text import removed

Row = tuple[str, str, str, str]  # what, of the dense network, of this one, the share removed


def show(result: dict[str, Any], console: Console | None = None) -> None:
    """Prints the figures of a run, and the tables that its method has.

    Args:
        result: what `train` writes to `result.json`.
        console: where to; None for standard output.
    """
    console = console or Console()
    console.print(table(result))
    console.print(sentence(result), highlight=False)
    for more in methods.find(result["method"]).tables(result):
        console.print(more)


def table(result: dict[str, Any]) -> Table:
    """Returns the figures of a run, and, if it pruned, those of the network before."""
    pruned = methods.find(result["method"]).is_pruning
    table = Table(title=f"{result['dataset']}, {result['model']}, {result['method']}")
    table.add_column("")
    if pruned:
        table.add_column("dense", justify="right")
    table.add_column(result["method"], justify="right")
    if pruned:
        table.add_column("removed", justify="right")
    for name, dense, now, share in rows(result):
        table.add_row(name, *([dense, now, share] if pruned else [now]))
    return table


def sentence(result: dict[str, Any]) -> str:
    """Returns what came of a run in one sentence.

    Its time is compared with that of a dense run, or else with the pace of its own dense epochs.
    """
    found = figures(result)
    said = f"{found['accuracy']:.2%} of the test images are right"
    if "dense_accuracy" in result:
        said += f" (dense: {result['dense_accuracy']:.2%})"
    if not methods.find(result["method"]).is_pruning:
        return said + "."
    parts = [said]
    for key, what in (("inference_flops", "inference FLOPs"), ("training_flops", "training FLOPs")):
        before, now = found[key]
        parts.append(f"{_changed(before, now, 'fewer')} {what}")
    if dense := result.get("dense_seconds"):
        parts.append(f"{_changed(dense, found['seconds'], 'less')} time")
    elif dense := result.get("dense_estimate"):
        time = _changed(dense, found["seconds"], "less")
        parts.append(f"{time} time than at the pace of its own dense epochs")
    return ", ".join(parts) + "."


def _changed(before: float, now: float, less: str) -> str:
    share = 1 - now / before if before else 0.0
    return f"{abs(share):.1%} {less if share >= 0 else 'more'}"


def figures(result: dict[str, Any]) -> dict[str, Any]:
    """Returns what runs are compared by, whatever their method.

    Args:
        result: what `train` writes to `result.json`.

    Returns:
        `accuracy`, of the test images; `seconds`, those of a search among them; and pairs, of the
        dense network and of this one: `training_flops`, with a search too; `inference_flops`, where
        gates skip branches the mean of the test images; `params`, where weights are zero those that
        are not.
    """
    # The accounts of training FLOPs begin with those of a search.
    names = ("accuracy", "training_flops", "inference_flops", "params", "seconds")
    own = methods.find(result["method"]).figures(result)
    return {name: result[name] for name in names} | own


def rows(result: dict[str, Any]) -> list[Row]:
    """Returns the rows of the summary: those of all methods, and its method's between them."""
    own = methods.find(result["method"]).fields
    shown = result | {"seconds": figures(result)["seconds"]}
    if shown["channels"][1] > shown["channels"][0]:  # rotations have channels of their own
        del shown["channels"]
    found: list[Row] = []
    for field in FIELDS:
        for each in (field, *(more for more in own if more.after == field.key)):
            found += _row(each, shown)
    return found


def _row(field: Field, result: dict[str, Any]) -> Iterator[Row]:
    if not field.row or field.key not in result:
        return
    now = result[field.key]
    if field.key == "epochs":  # more or fewer of them are not a share that was removed
        yield field.row, str(result.get("dense_epochs", "")), str(now), ""
        return
    if field.dense:
        now = [result[field.dense][0], now]
    if isinstance(now, list):
        before, after = now
        yield field.row, field.text(before), field.text(after), removed(before, after)
        return
    dense = result.get(f"dense_{field.key}")
    before = "" if dense is None else field.text(dense)
    share = removed(dense, now) if dense and field.key == "seconds" else ""
    yield field.row, before, field.text(now), share
