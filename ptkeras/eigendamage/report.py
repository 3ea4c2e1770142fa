"""What EigenDamage took from each layer: a table."""

from __future__ import annotations

import dataclasses
import io

from rich.console import Console
from rich.table import Table


@dataclasses.dataclass(frozen=True)
class LayerChange:
    """One row of an `EigenDamageReport`.

    Attributes:
        name: the layer's name, after those of the nested models that it is in.
        kind: the name of its class.
        directions: how many directions of what its core reads, and of what it makes, are under the
            threshold, and of how many: `((gone, all), (gone, all))`.
        widths: the number of channels from its input over those between the layers that it is made
            of to its output, before and after.
        macs: its multiply-accumulates for one example, before and after.
    """

    name: str
    kind: str
    directions: tuple[tuple[int, int], tuple[int, int]]
    widths: tuple[tuple[int, ...], tuple[int, ...]]
    macs: tuple[int, int]


@dataclasses.dataclass(frozen=True)
class EigenDamageReport:
    """What `ptkeras.eigendamage.prune` took from a model. Prints as a table.

    Attributes:
        layers: a `LayerChange` for each convolution and dense layer that was looked at, in the
            order of the graph.
        params: the model's number of parameters, before and after.
        macs: multiply-accumulates of those layers in a forward pass of one example, before and
            after.
    """

    layers: tuple[LayerChange, ...]
    params: tuple[int, int]
    macs: tuple[int, int]

    def __rich__(self) -> Table:
        """The table, for `rich.print`."""
        table = Table("layer", "kind", title="What went in the eigenbasis")
        for name in ("rows gone", "columns gone", "channels", "→", "MACs", "→", "removed"):
            table.add_column(name, justify="right")
        for row in self.layers:
            gone = [f"{gone} of {size}" for gone, size in row.directions]
            widths = ["-".join(map(str, each)) for each in row.widths]
            table.add_row(row.name, row.kind, *gone, *widths, *_cells(row.macs))
        table.add_section()
        table.add_row("all of these", "", "", "", "", "", *_cells(self.macs))
        table.add_row("parameters of the model", "", "", "", "", "", *_cells(self.params))
        return table

    def __str__(self) -> str:
        text = io.StringIO()
        Console(file=text, width=140, color_system=None).print(self)
        return text.getvalue()


def _cells(figures: tuple[int, int]) -> list[str]:
    before, after = figures
    return [f"{before:,}", f"{after:,}", f"{1 - after / before:.1%}" if before else ""]
