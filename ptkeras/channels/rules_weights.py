"""The rules of what symbolic tensors begin with inside of layers: their variables, and arrays."""

from __future__ import annotations

import numpy as np

from ptkeras.channels.opening import Constant, Weight
from ptkeras.channels.operands import keep_whole
from ptkeras.channels.registry import Call, register


@register(Weight)
def _weight(call: Call) -> np.ndarray:
    """A number per channel along the last axis, as class tokens and position embeddings have.

    Along other axes it stays whole: what is made of it may be a mean of all positions.
    """
    variable, rank = call.op.variable, len(call.op.variable.shape)
    if rank == 0:
        return call.constant(1).reshape(())
    keep_whole(call, variable, besides=-1)
    call.zero_output = True
    return call.spread(call.holds(variable, call.op.owner), -1, rank)


@register(Constant)
def _constant(call: Call) -> np.ndarray:
    shape = call.output_shapes[0]
    if not shape:
        return call.constant(1).reshape(())
    return call.spread(call.constant(shape[-1]), -1, len(shape))
