"""What the two attention layers of Keras are made of, and how they say their sizes.

`MultiHeadAttention` and `GroupQueryAttention` have public arguments and no public parts. A public
property for each projection and size would make this module needless.
"""

from __future__ import annotations

from typing import Any, Literal

Projection = Literal["query", "key", "value", "gate", "output"]
_PROJECTIONS: tuple[Projection, ...] = ("query", "key", "value", "gate", "output")

# The attribute with the shape that a `MultiHeadAttention` was told to return; since Keras 3.0.
OUTPUT_SHAPE = "_output_shape"


def projection(layer: Any, name: Projection) -> Any:
    """Returns the `EinsumDense` that projects queries, keys, values, the gate, or the output.

    Since Keras 3.0, and 3.14 for the gate.
    """
    return getattr(layer, f"_{name}_dense")


def projections(layer: Any) -> list[Any]:
    """Returns the projections that an attention has, in the order of `Projection`."""
    layers = [getattr(layer, f"_{name}_dense", None) for name in _PROJECTIONS]
    return [inner for inner in layers if inner is not None]


def has_gate(layer: Any) -> bool:
    """Whether a `MultiHeadAttention` has a gate; since Keras 3.14."""
    return getattr(layer, "_use_gate", False)


def output_shape_of(layer: Any) -> Any:
    """Returns the shape that a `MultiHeadAttention` was told to return, or None; since Keras 3.0.

    `Layer.output_shape` would be that of the tensor.
    """
    return getattr(layer, OUTPUT_SHAPE)


def multi_head_sizes(heads: int, width: int, values: int) -> dict[str, Any]:
    """Returns the attributes in which a `MultiHeadAttention` says its sizes; since Keras 3.0.

    Args:
        heads: number of heads.
        width: size of a head's queries and keys.
        values: size of a head's values.
    """
    return {
        "_num_heads": heads,
        "_key_dim": width,
        "_value_dim": values,
        "_inverse_sqrt_key_dim": float(width) ** -0.5,
    }


def grouped_query_scale(width: int) -> dict[str, float]:
    """Returns the attribute with the scale of the scores of a `GroupQueryAttention`.

    All of Keras 3.12 to 3.15. Its sizes are in public attributes.

    Args:
        width: size of a head.
    """
    return {"_inverse_sqrt_head_dim": float(width) ** -0.5}
