"""What a model is called on, as symbolic tensors."""

from __future__ import annotations

import inspect
from typing import Any

import keras

from ptkeras.channels.graph import functional_of, has_graph
from ptkeras.keras_compat.calls import build_shapes_of
from ptkeras.keras_compat.graph import input_structure


def symbolic_inputs(model: keras.Model, input_shape: Any = None) -> tuple[tuple, dict]:
    """Returns what a built model is called with: (args, kwargs) of symbolic tensors.

    Args:
        model: a built model of any kind.
        input_shape: shape of one example, without the batch axis, in place of what the model was
            built for; a structure of shapes for a model of several inputs.

    Raises:
        ValueError: If the model does not say what it is called on.
    """
    if has_graph(model):
        struct = input_structure(functional_of(model))
        return (_resized(model, struct, input_shape),), {}
    known = build_shapes_of(model)
    if input_shape is not None:
        return (_tensors(_with_batch(input_shape), _dtype(model)),), {}
    if not known:
        raise ValueError(
            f"The model '{model.name}' (a {type(model).__name__}) does not say what it is called "
            "on: call it on a batch of data first, or pass input_shape=, the shape of one example."
        )
    if len(known) == 1:
        return (_tensors(next(iter(known.values())), _dtype(model)),), {}
    names = list(inspect.signature(model.call).parameters)
    by_name = {name.removesuffix("_shape"): shape for name, shape in known.items()}
    return (), {n: _tensors(by_name[n], _dtype(model)) for n in names if n in by_name}


def _resized(model: keras.Model, struct: Any, input_shape: Any) -> Any:
    if input_shape is None:
        return struct
    shapes = _flat_shapes(input_shape)
    flat = keras.tree.flatten(struct)
    if len(shapes) != len(flat):
        raise ValueError(
            f"'{model.name}' has {len(flat)} inputs; input_shape has {len(shapes)} shapes: pass "
            "one for each."
        )
    new = [
        keras.KerasTensor((x.shape[0], *shape), dtype=x.dtype, name=x.name)
        for x, shape in zip(flat, shapes, strict=True)
    ]
    return keras.tree.pack_sequence_as(struct, new)


def _dtype(model: keras.Model) -> str:
    return model.compute_dtype or keras.config.floatx()


def _tensors(shapes: Any, dtype: str) -> Any:
    """A symbolic tensor for each shape of a structure."""
    if _is_shape(shapes):
        return keras.KerasTensor((None, *shapes[1:]), dtype=dtype)
    if isinstance(shapes, dict):
        return {k: _tensors(v, dtype) for k, v in shapes.items()}
    if isinstance(shapes, (list, tuple)):
        return type(shapes)(_tensors(v, dtype) for v in shapes)
    return shapes


def _with_batch(shapes: Any) -> Any:
    if isinstance(shapes, int):
        return (None, shapes)
    if _is_shape(shapes):
        return (None, *shapes)
    if isinstance(shapes, dict):
        return {k: _with_batch(v) for k, v in shapes.items()}
    return type(shapes)(_with_batch(v) for v in shapes)


def _is_shape(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(n is None or isinstance(n, int) for n in value)


def _flat_shapes(shapes: Any) -> list[tuple]:
    if _is_shape(shapes):
        return [tuple(shapes)]
    # Keras flattens a dict in the order of its keys.
    values = [shapes[k] for k in sorted(shapes)] if isinstance(shapes, dict) else shapes
    return [shape for value in values for shape in _flat_shapes(value)]
