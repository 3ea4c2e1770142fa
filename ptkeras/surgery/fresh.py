"""A network of another width, with weights of its own: fresh ones, drawn by its initialisers."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras.src.saving.serialization_lib import SafeModeScope

from ptkeras.channels import ChannelMap, trace
from ptkeras.surgery.layers import adjust
from ptkeras.surgery.rebuild import Builder
from ptkeras.surgery.reconfigure import scope_of


def fresh(channel_map: ChannelMap, keep: np.ndarray | None = None) -> keras.Model:
    """The network of a map without the channels that are not in `keep`, untrained.

    Args:
        channel_map: the channels of a model, which is not changed.
        keep: a bool per channel; None keeps all.

    Returns:
        A new model of plain Keras, not compiled.

    Raises:
        ValueError: as `ptkeras.reconfigure` does for a mask that it cannot follow.
    """
    keep = np.ones(len(channel_map), bool) if keep is None else channel_map.check_keep(keep)
    return _built(Builder(channel_map, keep, {}))


def widen(model: keras.Model, factor: float) -> keras.Model:
    """A network of the same graph whose layers have more channels, untrained.

    All layers whose channels may go get `factor` times as many, rounded; those whose channels are
    tied stay so. Channels of two axes, such as those of the heads of an attention, stay as many.

    Args:
        model: a Functional or built Sequential model, which is not changed.
        factor: from 1.

    Returns:
        A new model of plain Keras, not compiled.

    Raises:
        ValueError: the model has no graph, or an operation of it says sizes that do not grow.
    """
    channel_map = trace(model)
    try:
        return _built(_Widener(channel_map, factor))
    except Exception as error:
        if factor == 1:
            raise
        raise ValueError(
            f"'{model.name}' cannot be made {factor} times as wide, since an operation in it has "
            f"sizes of its own: choose 1. ({str(error).splitlines()[0]})"
        ) from error


def scaled_norms(channel_map: ChannelMap) -> keras.Model:
    """The network of a map, untrained, with a scale in every batch norm; channels are the same."""
    return _built(_WithScales(channel_map, np.ones(len(channel_map), bool), {}))


def _built(builder: Builder) -> keras.Model:
    # The configs come from layers of this process: a Lambda may be made from them.
    with scope_of(builder.map.model), SafeModeScope(False):
        model = builder.model(builder.map.model)
    for old, new in builder.pairs:
        if hasattr(old, "adapt"):  # what a layer has found in the data is not trained again
            for former, variable in zip(old.variables, new.variables, strict=True):
                variable.assign(former)
            adjust(old, new)
    return model


class _WithScales(Builder):
    def remade(self, old: Any, sizes: Any) -> Any:
        new = super().remade(old, sizes)
        if not isinstance(new, keras.layers.BatchNormalization) or new.scale:
            return new
        return type(new).from_config(new.get_config() | {"scale": True})


class _Widener(Builder):
    """Builds each position of a channel as often as the channel has copies."""

    def __init__(self, channel_map: ChannelMap, factor: float) -> None:
        wide = _WideMap(channel_map, _copies(channel_map, factor))
        super().__init__(wide, np.ones(len(channel_map), bool), {})

    def positions(self, variable: keras.Variable) -> list[np.ndarray]:
        result = super().positions(variable)
        for axis in range(len(result)):
            row = self.slices.get((id(variable), axis))
            if row is not None:
                result[axis] = np.repeat(result[axis], self.map.copies[row.channels])
        return result


class _WideMap(ChannelMap):
    def __init__(self, old: ChannelMap, copies: np.ndarray) -> None:
        super().__init__(old.model, old.slices, old.causes, old.tensors, old.inner)
        self.copies = copies

    def kept_shape(self, keep: np.ndarray, tensor: Any) -> tuple[int | None, ...]:
        labels = self.tensors[id(tensor)]
        copies = np.append(self.copies, 1)[labels]
        varying = [axis for axis, n in enumerate(labels.shape) if n > 1]
        shape = list(tensor.shape)
        if len(varying) == 1:
            shape[varying[0]] = int(copies.sum())
        return tuple(shape)


def _copies(channel_map: ChannelMap, factor: float) -> np.ndarray:
    """How often each channel is to be there, spread evenly over the channels of a layer."""
    copies = np.ones(len(channel_map), int)
    free = channel_map.prunable
    for labels in channel_map.tensors.values():
        if sum(n > 1 for n in labels.shape) > 1:
            free[labels[labels >= 0]] = False
    for row in channel_map.slices:
        if row.role != "output":
            continue
        _, first = np.unique(row.channels, return_index=True)
        channels = row.channels[np.sort(first)]
        channels = channels[free[channels]]
        if len(channels) == 1:
            continue  # a tensor of one position does not say along which axis its channel lies
        ends = [math.floor(i * factor + 0.5) for i in range(len(channels) + 1)]
        copies[channels] = np.diff(ends)
        free[channels] = False
    return copies
