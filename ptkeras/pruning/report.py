"""What a pruning takes, or would take, from each layer: a table."""

from __future__ import annotations

import dataclasses
import io
from collections import Counter
from typing import Any

import keras
import numpy as np
from rich.console import Console
from rich.table import Table

from ptkeras.channels import ChannelMap
from ptkeras.channels.layer_names import made_by, paths
from ptkeras.cost.prediction import Prediction, has_open_sizes, params


@dataclasses.dataclass(frozen=True)
class LayerChange:
    """One row of a `PruneReport`.

    Attributes:
        name: the layer's name, after those of the models and layers that it is in.
        kind: the name of its class.
        channels: the number of its output channels, before and after.
        macs: its multiply-accumulates for one example, before and after, over all of its calls;
            None where the model leaves sizes open.
        frozen: how many of its channels may not go, and the names of the operations that need them,
            such as `"10 by output"` or `"64 by layer_norm"`; `""` if all may. See
            `ChannelMap.why_frozen`.
    """

    name: str
    kind: str
    channels: tuple[int, int]
    macs: tuple[int, int] | None
    frozen: str = ""


@dataclasses.dataclass(frozen=True)
class PruneReport:
    """What `ptkeras.prune` took from a model or, as a dry run, would take. Prints as a table.

    Attributes:
        layers: a `LayerChange` for each layer that makes or filters channels, or has
            multiply-accumulates, in the order of the graph.
        channels: the sum of the layers' channels, before and after.
        params: the model's number of parameters, before and after.
        macs: multiply-accumulates of one forward pass of one example, before and after; None where
            the model leaves sizes open.
        keep: after a dry run, the mask that `ptkeras.reconfigure(model, report.keep)` takes to do
            it; otherwise None.
        model: the model that was pruned: the one given or, with `copy=True`, its copy. None after a
            dry run.
    """

    layers: tuple[LayerChange, ...]
    channels: tuple[int, int]
    params: tuple[int, int]
    macs: tuple[int, int] | None
    keep: np.ndarray | None = dataclasses.field(default=None, repr=False, compare=False)
    model: keras.Model | None = dataclasses.field(default=None, repr=False, compare=False)

    def __rich__(self) -> Table:
        """The table, for `rich.print`."""
        dry = self.keep is not None
        table = Table("layer", "kind", title="What would go" if dry else "What went")
        for name in ("channels", "→", "MACs", "→", "removed"):
            table.add_column(name, justify="right")
        if dry:
            table.add_column("may not go")
        for layer in self.layers:
            figures = (*_cells(layer.channels), *_cells(layer.macs, True))
            table.add_row(layer.name, layer.kind, *figures, *[layer.frozen] * dry)
        table.add_section()
        table.add_row("all layers", "", *_cells(self.channels), *_cells(self.macs, True))
        table.add_row("parameters", "", "", "", *_cells(self.params, True))
        return table

    def __str__(self) -> str:
        text = io.StringIO()
        Console(file=text, width=120, color_system=None).print(self)
        return text.getvalue()


class Survey:
    """The figures of a model, as it is or as a keep mask would leave it.

    Args:
        channel_map: the channels of the model.
        keep: a bool per channel.
        input_shape: shape of one example, for a model that leaves sizes open.
        prediction: the `Prediction` for these, if there is one already.

    Attributes:
        rows: for each layer name its kind, its channels and its MACs (None: sizes are open).
        frozen: for each layer name how many of its channels may not go, and what needs them.
        params: number of parameters.
        macs: the sum of the MACs.
        exact: whether the MACs are what the rebuilt model will have.
    """

    def __init__(
        self,
        channel_map: ChannelMap,
        keep: np.ndarray,
        input_shape: Any = None,
        prediction: Prediction | None = None,
    ) -> None:
        self._given = channel_map, input_shape
        self._prediction = prediction
        self.rows: dict[str, tuple[str, int, int | None]] = {}
        self.frozen: dict[str, str] = {}
        self.params = params(channel_map, keep)
        self.macs: int | None = None
        self.exact = True
        calls: list[tuple[str, Any, int | None]]
        with_rows = {id(row.layer): row.layer for row in channel_map.slices if row.role != "vector"}
        if input_shape is None and has_open_sizes(channel_map.model):
            path = paths(channel_map.model)
            calls = [(path.get(key, x.name), x, None) for key, x in with_rows.items()]
        else:
            if prediction is None:
                prediction = self._prediction = Prediction(channel_map, input_shape)
            self.exact = prediction.exact
            counts = prediction.macs(keep)
            self.macs = sum(counts)
            calls = [(*layer, n) for layer, n in zip(prediction.layers, counts, strict=True)]
        names: dict[int, str] = {}
        for name, layer, macs in calls:
            if id(layer) not in with_rows and not macs:
                continue
            name = names.setdefault(id(layer), name)
            made = made_by(channel_map, layer)
            if name in self.rows:
                macs = (macs or 0) + (self.rows[name][2] or 0)
            count = int(channel_map.kept(keep, made).sum())
            self.rows[name] = (type(layer).__name__, count, macs)
            self.frozen[name] = _frozen(channel_map, made)

    def left_by(self, keep: np.ndarray) -> Survey:
        """Returns the figures of the same model, as another keep mask would leave it."""
        channel_map, input_shape = self._given
        return Survey(channel_map, keep, input_shape, self._prediction)

    def report(
        self, after: Survey, model: keras.Model | None, keep: np.ndarray | None = None
    ) -> PruneReport:
        """The report of what is between two surveys of the same model."""
        layers = []
        for name, (kind, channels, macs) in self.rows.items():
            _, left, macs_left = after.rows.get(name, (kind, 0, 0))
            pair = _pair(macs, macs_left)
            change = LayerChange(name, kind, (channels, left), pair, self.frozen[name])
            layers.append(change)
        channels, channels_left = (sum(layer.channels[i] for layer in layers) for i in (0, 1))
        return PruneReport(
            layers=tuple(layers),
            channels=(channels, channels_left),
            params=(self.params, after.params),
            macs=_pair(self.macs, after.macs),
            keep=keep,
            model=model,
        )


def _pair(before: int | None, after: int | None) -> tuple[int, int] | None:
    return None if before is None or after is None else (before, after)


def _frozen(channel_map: ChannelMap, made: np.ndarray) -> str:
    """How many of a layer's channels may not go, and what needs them."""
    causes = [channel_map.causes[channel] for channel in made if channel >= 0]
    own = {"input", "output"}
    names = [c.kind if c.kind in own else c.name for c in causes if c is not None]
    return ", ".join(f"{count} by {name}" for name, count in Counter(names).items())


def _cells(figures: tuple[int, int] | None, removed: bool = False) -> list[str]:
    if figures is None:
        return [""] * (3 if removed else 2)
    before, after = figures
    cells = [f"{before:,}", f"{after:,}"]
    if removed:
        cells.append(f"{1 - after / before:.1%}" if before else "")
    return cells
