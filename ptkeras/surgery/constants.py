"""Tensors whose every channel goes: what reads them sees a constant, and the graph can say so.

A residual branch that has gone dead still adds what its last bias or batch norm makes of nothing.
That number per channel is found by running the old layers on zeros; a `Rescaling` layer adds it
where the branch joined, so that the network's outputs stay what they were.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers

from ptkeras.channels.lone import ADDS


class DeadEndError(ValueError):
    """A keep mask takes every channel of a tensor, and what reads it cannot do without.

    Attributes:
        tensor: the symbolic tensor that loses all of its channels.
    """

    def __init__(self, tensor: Any, reader: str) -> None:
        super().__init__(
            f"keep takes all channels of the tensor of shape {tuple(tensor.shape)} that "
            f"'{reader}' reads, and '{reader}' cannot do without it: keep at least one of them."
        )
        self.tensor = tensor


class Constant(NamedTuple):
    """A tensor that the inputs of the network no longer change.

    Attributes:
        tensor: the old symbolic tensor.
        value: its value at inference, of the tensor's shape with batch size 1; 0 where a channel
            goes.
        origin: the tensor that lost all of its channels, and so made this one constant.
    """

    tensor: Any
    value: np.ndarray
    origin: Any


def dead(tensor: Any) -> Constant:
    """The constant of a tensor that loses all of its channels."""
    value = np.zeros([1, *(n or 1 for n in tensor.shape[1:])], "float32")
    return Constant(tensor, value, origin=tensor)


def evaluate(node: Any, constants: dict[int, Constant], kept: list[np.ndarray]) -> list[Constant]:
    """The outputs of a node whose inputs are all constant, by running its old layer.

    Args:
        node: a node of the old graph.
        constants: the constant for the `id` of each of the node's input tensors.
        kept: for each output a bool array that broadcasts against it: which positions stay.
    """
    values = {key: keras.ops.convert_to_tensor(c.value) for key, c in constants.items()}
    args, kwargs = node.arguments.fill_in(values)
    kwargs.pop("training", None)
    origin = next(iter(constants.values())).origin
    try:
        outputs = keras.tree.flatten(node.operation(*args, **kwargs))
    except Exception as error:  # it may put the examples of a batch together, of which here is one
        raise DeadEndError(origin, node.operation.name) from error
    return [
        Constant(tensor, keras.ops.convert_to_numpy(value).astype("float32") * keep, origin)
        for tensor, value, keep in zip(node.outputs, outputs, kept, strict=True)
    ]


def join(node: Any, live: list[Any], constants: list[Constant], keep: np.ndarray) -> Any:
    """The output of an addition or product of live tensors and constants.

    Args:
        node: the old node, whose operation is one of `ADDS` or `MULTIPLIES`.
        live: the new symbolic tensors that it still combines, at least one.
        constants: what else it combined.
        keep: bool array that broadcasts against the node's output: which positions stay.

    Raises:
        DeadEndError: a constant differs from place to place, so no number per channel can say it.
    """
    op = node.operation
    adds = isinstance(op, ADDS)
    combine, neutral = (np.add, 0.0) if adds else (np.multiply, 1.0)
    total: np.ndarray | float = neutral
    for constant in constants:
        total = combine(total, per_channel(constant, keep, op.name))
    result = live[0]
    if len(live) > 1:
        result = (layers.add if adds else layers.multiply)(live)
    total = np.asarray(total)
    if (total == neutral).all():
        return result
    total = np.broadcast_to(total, np.broadcast_shapes(total.shape, keep.shape))
    for axis in range(total.ndim):
        if total.shape[axis] > 1:
            total = total.compress(keep.reshape(-1), axis)
    numbers = total[0].tolist() if total.ndim > 1 else total.tolist()
    scale, offset = (1.0, numbers) if adds else (numbers, 0.0)
    return layers.Rescaling(scale, offset, name=f"{op.name}_constant")(result)


def per_channel(constant: Constant, keep: np.ndarray, reader: str) -> np.ndarray:
    """A constant as an array that changes along the channel axis alone."""
    value = constant.value
    for axis in range(value.ndim):
        if value.shape[axis] > 1 and (axis >= keep.ndim or keep.shape[axis] == 1):
            first = value.take([0], axis)
            if not np.allclose(value, first, rtol=1e-6, atol=1e-7):
                raise DeadEndError(constant.origin, reader)
            value = first
    return value
