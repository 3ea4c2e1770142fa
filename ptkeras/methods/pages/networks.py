"""The networks of static and dynamic pruning beside each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rich.table import Table

from ptkeras.report.elements import paragraph, section, table
from ptkeras.utils.text import large, milliseconds, whole

if TYPE_CHECKING:
    from ptkeras.report.runs import Run

_COLUMNS = {
    "accuracy": ("test accuracy", "{:.2%}".format),
    "params": ("parameters", whole),
    "inference_flops": ("inference FLOPs", large),
    "milliseconds": ("ms", milliseconds),
}
_HEADS = [head for head, _ in _COLUMNS.values()]


def tables(result: Mapping[str, Any]) -> Iterator[Table]:
    """Returns the table that is printed; none if the networks were not compared."""
    if "comparison" in result:
        printed = Table(title="one image at a time, in onnxruntime on one thread")
        printed.add_column("")
        for head in _HEADS:
            printed.add_column(head, justify="right")
        for cells in rows(result["comparison"]):
            printed.add_row(*cells)
        yield printed


def sections(run: Run) -> Iterator[str]:
    """Returns the section of the page; none if the networks were not compared."""
    if run.result.get("comparison"):
        says = "Milliseconds are those of one image at a time, in onnxruntime on one thread."
        body = table(("network", *_HEADS), rows(run.result["comparison"])) + paragraph(says)
        yield section("Static and dynamic pruning", body)


def rows(comparison: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Returns the networks as text: name and figures, empty if one was not measured."""

    def cell(network: dict[str, Any], key: str) -> str:
        return "" if network.get(key) is None else _COLUMNS[key][1](network[key])

    return [(one["network"], *(cell(one, key) for key in _COLUMNS)) for one in comparison]
