"""Folding batch normalisation, and whatever else scales and shifts channels, into an ONNX graph.

With constants s and t along the channels, `(W·x + b)·s + t = (W·s)·x + (b·s + t)`. That is exact
for every convolution, transposed and grouped ones too, and for matrix products, if nothing else
reads what lies between. (The other way round, a shift *before* a convolution that pads, it is not:
padding is zero there, and would not be shifted. Those are left alone.)
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any, NamedTuple

import numpy as np

_CONVOLUTIONS = ("Conv", "ConvTranspose")
_ELEMENTWISE = ("Add", "Sub", "Mul", "Div")


class Place(NamedTuple):
    """Where the channels are in a tensor."""

    axis: int
    rank: int


class Affine(NamedTuple):
    """`x·scale + shift` along the channels; both float64, of as many entries."""

    scale: np.ndarray
    shift: np.ndarray


def fold(graph: Any) -> int:
    """Folds what scales and shifts channels into the convolution or matrix product before it.

    Args:
        graph: an ONNX graph in topological order, with inferred shapes; it is changed.

    Returns:
        How many nodes have gone.
    """
    folder = _Folder(graph)
    for node in list(graph.node):
        if node.op_type in (*_CONVOLUTIONS, "MatMul", "Gemm"):
            folder.fold_behind(node)
    folder.finish()
    return len(folder.gone)


class _Folder:
    def __init__(self, graph: Any) -> None:
        from onnx import numpy_helper

        self.graph = graph
        self.to_array, self.from_array = numpy_helper.to_array, numpy_helper.from_array
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        self.constants |= {
            node.output[0]: node.attribute[0].t
            for node in graph.node
            if node.op_type == "Constant" and node.attribute[0].name == "value"
        }
        self.readers: dict[str, list[Any]] = defaultdict(list)
        for node in graph.node:
            for name in all_inputs(node):
                self.readers[name].append(node)
        self.kept = {output.name for output in graph.output}
        self.ranks = {
            value.name: len(value.type.tensor_type.shape.dim)
            for value in (*graph.value_info, *graph.output, *graph.input)
            if value.type.tensor_type.HasField("shape")
        }
        self.gone: set[int] = set()
        self.added: list[Any] = []

    def fold_behind(self, node: Any) -> None:
        """Folds the chain of nodes behind one convolution or matrix product into it."""
        linear = self.linear(node)
        if linear is None:
            return
        channels, place = linear
        total = Affine(np.ones(channels), np.zeros(channels))
        chain: list[tuple[Any, Place]] = []
        tensor = node.output[0]
        while (reader := self.only_reader(tensor)) is not None:
            affine = self.affine(reader, tensor, place, channels)
            if affine is not None:
                total = Affine(
                    total.scale * affine.scale, total.shift * affine.scale + affine.shift
                )
                chain.append((reader, place))
            else:
                moved = self.moved(reader, tensor, place)
                if moved is None:
                    break
                place = moved
            tensor = reader.output[0]
        if not chain or not np.isfinite(total.scale).all() or not np.isfinite(total.shift).all():
            return
        if node.op_type == "MatMul":
            self.fold_into_product(node, total, chain)
        else:
            self.fold_into_biased(node, total)
            for gone, _ in chain:
                self.remove(gone)

    def linear(self, node: Any) -> tuple[int, Place] | None:
        """The number of channels of a linear node with constant weights, and where they are."""
        names = list(node.input)[1:]
        if any(name and name not in self.constants for name in names):
            return None
        shape = tuple(self.constants[node.input[1]].dims)
        if node.op_type in _CONVOLUTIONS:
            count = shape[0] if node.op_type == "Conv" else shape[1] * _attribute(node, "group", 1)
            return count, Place(1, len(shape))
        if len(shape) != 2:
            return None
        if node.op_type == "Gemm":
            return shape[0 if _attribute(node, "transB", 0) else 1], Place(1, 2)
        rank = self.ranks.get(node.output[0])
        return None if not rank else (shape[1], Place(rank - 1, rank))

    def only_reader(self, tensor: str) -> Any:
        readers = self.readers[tensor]
        if len(readers) != 1 or tensor in self.kept or tensor not in readers[0].input:
            return None
        return readers[0]

    def affine(self, node: Any, tensor: str, place: Place, channels: int) -> Affine | None:
        """What a node does to the channels, if it scales and shifts them by constants."""
        if node.op_type == "BatchNormalization":
            return self.normalisation(node, tensor, place)
        if node.op_type not in _ELEMENTWISE or list(node.input).count(tensor) != 1:
            return None
        first = node.input[0] == tensor
        other = self.constants.get(node.input[1 if first else 0])
        vector = None if other is None else self.along(other, place, channels)
        if vector is None:
            return None
        one, zero = np.ones(channels), np.zeros(channels)
        if node.op_type == "Add":
            return Affine(one, vector)
        if node.op_type == "Mul":
            return Affine(vector, zero)
        if node.op_type == "Sub":
            return Affine(one, -vector) if first else Affine(-one, vector)
        return Affine(1 / vector, zero) if first and vector.all() else None

    def normalisation(self, node: Any, tensor: str, place: Place) -> Affine | None:
        if place.axis != 1 or node.input[0] != tensor or _attribute(node, "training_mode", 0):
            return None
        if any(name not in self.constants for name in node.input[1:]):
            return None
        gamma, beta, mean, variance = (
            self.to_array(self.constants[name]).astype("float64") for name in node.input[1:]
        )
        scale = gamma / np.sqrt(variance + _attribute(node, "epsilon", 1e-5))
        return Affine(scale, beta - mean * scale)

    def along(self, constant: Any, place: Place, channels: int) -> np.ndarray | None:
        """A constant as a vector along the channels, if it is the same along all other axes."""
        array = self.to_array(constant)
        if array.dtype.kind != "f" or array.ndim > place.rank:
            return None
        shape = (1,) * (place.rank - array.ndim) + array.shape
        others = shape[: place.axis] + shape[place.axis + 1 :]
        if any(size != 1 for size in others) or shape[place.axis] not in (1, channels):
            return None
        return np.broadcast_to(array.reshape(-1).astype("float64"), channels)

    def moved(self, node: Any, tensor: str, place: Place) -> Place | None:
        """Where the channels are behind a node that only moves them, None behind all others."""
        if node.input[0] != tensor:
            return None
        if node.op_type == "Transpose":
            order = _attribute(node, "perm", list(reversed(range(place.rank))))
            return Place(list(order).index(place.axis), place.rank)
        if node.op_type in ("Squeeze", "Unsqueeze"):
            if len(node.input) < 2 or node.input[1] not in self.constants:
                return None
            axes = [int(axis) for axis in self.to_array(self.constants[node.input[1]])]
            return _resized(place, axes, node.op_type == "Unsqueeze")
        return None

    def fold_into_biased(self, node: Any, total: Affine) -> None:
        """Into a Conv, ConvTranspose or Gemm, which have a bias."""
        weights = self.to_array(self.constants[node.input[1]])
        if node.op_type == "Conv":
            scaled = weights * total.scale.reshape(-1, *(1,) * (weights.ndim - 1))
        elif node.op_type == "ConvTranspose":
            groups = _attribute(node, "group", 1)
            grouped = weights.reshape(groups, -1, *weights.shape[1:])
            scale = total.scale.reshape(groups, 1, -1, *(1,) * (weights.ndim - 2))
            scaled = (grouped * scale).reshape(weights.shape)
        else:
            axis = 0 if _attribute(node, "transB", 0) else 1
            scaled = weights * (total.scale[:, None] if axis == 0 else total.scale)
        shift = total.shift
        if len(node.input) > 2 and node.input[2]:
            bias = self.to_array(self.constants[node.input[2]]).astype("float64")
            beta = _attribute(node, "beta", 1.0) if node.op_type == "Gemm" else 1.0
            shift = beta * bias * total.scale + shift
        if node.op_type == "Gemm":
            for attribute in node.attribute:
                if attribute.name == "beta":
                    attribute.f = 1.0
        names = [self.added_constant(node.input[1], scaled.astype(weights.dtype))]
        names.append(self.added_constant(node.input[1] + "_shift", shift.astype(weights.dtype)))
        node.input[1:] = names

    def fold_into_product(self, node: Any, total: Affine, chain: list) -> None:
        """Into a MatMul, which has no bias: the last node of the chain becomes the only shift."""
        if len(chain) == 1 and (total.scale == 1).all():
            return
        weights = self.to_array(self.constants[node.input[1]])
        scaled = (weights * total.scale).astype(weights.dtype)
        node.input[1] = self.added_constant(node.input[1], scaled)
        *before, (last, place) = chain
        for gone, _ in before:
            self.remove(gone)
        if not total.shift.any():
            self.remove(last)
            return
        shape = [1] * place.rank
        shape[place.axis] = -1
        shift = total.shift.astype(weights.dtype).reshape(shape)
        last.op_type = "Add"
        del last.attribute[:]
        last.input[:] = [self.data(last), self.added_constant(f"{node.output[0]}_shift", shift)]

    def added_constant(self, name: str, array: np.ndarray) -> str:
        name = f"{name}__folded_{len(self.added)}"
        self.added.append(self.from_array(np.ascontiguousarray(array), name))
        self.constants[name] = self.added[-1]
        return name

    def remove(self, node: Any) -> None:
        """Takes a node out: who reads its output, or calls it an output, gets its input."""
        self.gone.add(id(node))
        tensor, output = self.data(node), node.output[0]
        if output in self.kept:  # the name must stay: whoever makes `tensor` takes it over
            for other in self.graph.node:
                other.output[:] = [output if name == tensor else name for name in other.output]
            return
        for reader in self.readers[output]:
            reader.input[:] = [tensor if name == output else name for name in reader.input]
        self.readers[tensor] = self.readers[output]

    def data(self, node: Any) -> str:
        """The input of a node that is no constant."""
        return next(name for name in node.input if name not in self.constants)

    def finish(self) -> None:
        left = [node for node in self.graph.node if id(node) not in self.gone]
        used = {name for node in left for name in all_inputs(node)} | self.kept
        initializers = [*self.graph.initializer, *self.added]
        initializers = [tensor for tensor in initializers if tensor.name in used]
        left = [node for node in left if node.op_type != "Constant" or node.output[0] in used]
        # Copies first: deleting a repeated field empties what it holds.
        nodes = [copied(node) for node in left]
        tensors = [copied(tensor) for tensor in initializers]
        del self.graph.node[:], self.graph.initializer[:], self.graph.value_info[:]
        self.graph.node.extend(nodes)
        self.graph.initializer.extend(tensors)


def copied(message: Any) -> Any:
    """A message of protobuf that belongs to no other one."""
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


def _resized(place: Place, axes: list[int], grows: bool) -> Place | None:
    """Where an axis is after others of size one are put in, or taken out."""
    if grows:
        rank = place.rank + len(axes)
        new = {axis % rank for axis in axes}
        rest = [axis for axis in range(rank) if axis not in new]
        return Place(rest[place.axis], rank)
    gone = {axis % place.rank for axis in axes}
    if place.axis in gone:
        return None
    rest = [axis for axis in range(place.rank) if axis not in gone]
    return Place(rest.index(place.axis), len(rest))


def _attribute(node: Any, name: str, default: Any) -> Any:
    from onnx import helper

    for attribute in node.attribute:
        if attribute.name == name:
            return helper.get_attribute_value(attribute)
    return default


def all_inputs(node: Any) -> list[str]:
    """The tensors that a node reads, those that its subgraphs read among them."""
    names = list(node.input)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                names += all_inputs(inner)
    return names
