"""The kernels of a model: what magnitude pruning takes weights from."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

import keras
import numpy as np

from ptkeras.keras_compat.tracking import flatten_layers, own_variables
from ptkeras.utils.arrays import numbers
from ptkeras.utils.models import check_model
from ptkeras.utils.names import close

Kind = Literal["conv", "dense"]


class Kernel(NamedTuple):
    """A kernel, one variable of a layer.

    Attributes:
        path: the layer's path; where a layer has several kernels, the variable's name behind it.
        kind: `"conv"` for kernels that slide over positions, `"dense"` for all others.
        variable: the Keras variable.
        layer: the layer that owns it.
    """

    path: str
    kind: Kind
    variable: keras.Variable
    layer: keras.layers.Layer

    @property
    def size(self) -> int:
        """The number of its weights."""
        return math.prod(self.variable.shape)

    @property
    def values(self) -> np.ndarray:
        """Its weights as they are now, to be read."""
        return numbers(self.variable)

    @property
    def is_depthwise(self) -> bool:
        """Whether each of its filters reads one channel, so that it sums over positions alone."""
        depthwise = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
        return isinstance(self.layer, depthwise) or self.variable.name.startswith("depthwise")

    @property
    def is_transposed(self) -> bool:
        """Whether its input channels are its last axis, and its outputs the last but one."""
        names = ("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose")
        return isinstance(self.layer, tuple(getattr(keras.layers, name) for name in names))

    def goes_by(self, name: str) -> bool:
        """Whether a name is that of the kernel, of its layer or of its kind."""
        return name in (self.path, self.layer.path, self.layer.name, self.kind)


def kernels(model: keras.Model, leave_alone: Iterable[str] = ()) -> list[Kernel]:
    """The kernels of all layers of a built model, nested ones too; each once if shared.

    A kernel is a weight of at least two axes whose name ends with "kernel", as those of all of
    Keras's convolutions (depthwise and separable ones too), dense, `EinsumDense`, attention and
    recurrent layers do. Biases, normalisation and embeddings have none. A layer of another make
    names its kernels as it would for TF-MOT, by a method `get_prunable_weights()`.

    Args:
        model: any built Keras model; it needs no graph.
        leave_alone: what to leave out: names or paths of layers, `"conv"` or `"dense"`.

    Raises:
        ValueError: the model has no kernels, or nothing goes by a name in `leave_alone`, or all do,
            or that is no name.
    """
    check_model(model)
    found: dict[int, Kernel] = {}
    for layer in flatten_layers(model, include_self=False):
        variables = _kernels_of(layer)
        for variable in variables:
            path = layer.path if len(variables) == 1 else f"{layer.path}/{variable.name}"
            kind: Kind = "conv" if hasattr(layer, "kernel_size") else "dense"
            found.setdefault(id(variable), Kernel(path, kind, variable, layer))
    everything = list(found.values())
    if not everything:
        raise ValueError(
            f"'{model.name}' has no kernels to take weights from: it needs a convolution, dense, "
            "attention or recurrent layer, and to be built."
        )
    leave_alone = names_of(leave_alone)
    check_names(model, everything, leave_alone)
    chosen = [k for k in everything if not any(k.goes_by(name) for name in leave_alone)]
    if not chosen:
        raise ValueError(
            f"leave_alone={leave_alone} leaves no kernel of '{model.name}' to take weights from."
        )
    return chosen


def names_of(leave_alone: Any) -> list[str]:
    """One name, or several, as a list.

    Raises:
        ValueError: it is anything else.
    """
    names = [leave_alone] if isinstance(leave_alone, str) else leave_alone
    names = list(names) if isinstance(names, Iterable) else [names]
    if not all(isinstance(name, str) for name in names):
        raise ValueError(
            'leave_alone must be names or paths of layers, or "conv" or "dense"; received '
            f"{leave_alone!r}."
        )
    return names


def check_names(model: keras.Model, among: list[Kernel], names: Iterable[str]) -> None:
    """Refuses a name that no kernel goes by.

    Raises:
        ValueError: there is such a name; the message has the nearest one.
    """
    for name in names:
        if not any(kernel.goes_by(name) for kernel in among):
            known = [kernel.layer.name for kernel in among]
            nearest = [*close(name, known), *known][0]
            raise ValueError(
                f"No kernel of '{model.name}' goes by {name!r}: name layers that have one, such as "
                f'\'{nearest}\', or a kind, "conv" or "dense".'
            )


def _kernels_of(layer: keras.layers.Layer) -> list[keras.Variable]:
    if hasattr(layer, "get_prunable_weights"):
        return list(layer.get_prunable_weights())
    own = own_variables(layer)
    return [
        v for v in own if v.name.endswith("kernel") and len(v.shape) > 1 and "float" in str(v.dtype)
    ]
