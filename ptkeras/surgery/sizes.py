"""How a layer says its size: the attributes that change with it, one small function per type."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np

Shape = tuple[int | None, ...]


class Sizes(NamedTuple):
    """What becomes of a layer and its tensors.

    Attributes:
        shape: the new shape of one of the layer's variables.
        inputs: the new shapes of the input tensors.
        outputs: the new shapes of the output tensors.
        kept: one bool array per input tensor that broadcasts against its old shape: what is kept.
        former: the shapes that the input tensors had.
    """

    shape: Callable[[keras.Variable], tuple[int, ...]]
    inputs: list[Shape]
    outputs: list[Shape]
    kept: list[np.ndarray]
    former: list[Shape]

    def within_time(self) -> Sizes:
        """Returns the same for the layer in a `TimeDistributed`: without the axis of time.

        A mask, which is its second input, has no other axis.
        """
        inputs, outputs, former = (
            [(s[0], *s[2:]) for s in each]
            for each in (self.inputs[:1], self.outputs, self.former[:1])
        )
        kept = [np.squeeze(k, 1) for k in self.kept[:1]]
        return Sizes(self.shape, inputs, outputs, kept, former)


class Attributes(dict):
    """New values of attributes of a layer by their names, and of layers inside of it.

    Attributes:
        owner: the layer.
        inner: the `Attributes` of layers inside of it.
    """

    def __init__(self, owner: Any) -> None:
        super().__init__()
        self.owner = owner
        self.inner: list[Attributes] = []

    def of(self, layer: Any, sizes: Sizes) -> Attributes:
        """Adds what changes of a layer inside of this one, as that layer's own type says it."""
        attributes = new_attributes(layer, sizes)
        self.inner.append(attributes)
        return attributes

    def assignments(self) -> Iterator[tuple[Any, str, Any]]:
        """Yields (owner, name of the attribute, new value)."""
        for name, value in self.items():
            yield self.owner, name, value
        for inner in self.inner:
            yield from inner.assignments()


Resizer = Callable[[Any, Attributes, Sizes], None]
_RESIZERS: dict[type, Resizer] = {}


def register(*types: type) -> Callable[[Resizer], Resizer]:
    """Decorator that registers which attributes of a layer type say its size.

    ```python
    @ptkeras.surgery.register(MyDense)
    def _(layer, attributes, sizes):
        attributes["units"] = sizes.shape(layer.kernel)[-1]
    ```

    Layers that say no size (batch norm finds it in its input) need none. Shapes of inputs that
    Keras keeps (`input_spec`, and what `build` was called with) follow by themselves.

    Args:
        *types: classes of layers or operations.

    Returns:
        A decorator for a function of the layer, a dict to put the new values of its attributes
        in, and the `Sizes`.
    """

    def decorate(resizer: Resizer) -> Resizer:
        for cls in types:
            _RESIZERS[cls] = resizer
        return resizer

    return decorate


def new_attributes(layer: Any, sizes: Sizes) -> Attributes:
    """Returns the attributes of a layer or operation that say its size, with their new values."""
    attributes = Attributes(layer)
    for cls in type(layer).__mro__:
        if cls in _RESIZERS:
            _RESIZERS[cls](layer, attributes, sizes)
            break
    return attributes
