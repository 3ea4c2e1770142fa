"""How layers are called: their signatures, their checks, and what they remember of shapes."""

from __future__ import annotations

import inspect
from typing import Any

import keras

# Attributes that hold shapes, for a log of changes. A public way to change the sizes of a built
# layer or tensor would make them needless.
TENSOR_SHAPE = "_shape"  # of a `KerasTensor`, whose `shape` has no setter; since Keras 3.0
INPUT_SHAPE = "_batch_shape"  # of an `InputLayer`; all of Keras 3.12 to 3.15
INPUT_SPEC = "_input_spec"  # of a layer; setting `input_spec` would not be undone; since Keras 3.0
BUILD_SHAPES = "_build_shapes_dict"  # of a layer, for `get_build_config`; since Keras 3.0


def input_spec_of(layer: Any) -> Any:
    """Returns the `InputSpec`s that were set on a layer, or None.

    Since Keras 3.0. Models make those of the public `input_spec` from their graph; if they said
    which were set, this would be needless.
    """
    return getattr(layer, INPUT_SPEC, None)


def build_shapes_of(layer: Any) -> dict[str, Any] | None:
    """Returns the shapes that a layer was built with by the arguments of `build`, or None.

    Since Keras 3.0. `get_build_config` is public, but a layer's own may say anything else.
    """
    return getattr(layer, BUILD_SHAPES, None)


def call_signature(layer: keras.layers.Layer) -> inspect.Signature:
    """Returns the signature of the `call` of a layer, which Keras binds arguments to.

    Since Keras 3.0. `inspect.signature(layer.call)` is another one if `call` was set later on.
    """
    return layer._call_signature


def takes_training(layer: Any) -> bool:
    """Whether the `call` of a layer takes `training`.

    All of Keras 3.12 to 3.15. A public list of the context arguments would make this needless.
    """
    return bool(getattr(layer, "_call_has_context_arg", {}).get("training", False))


def check_inputs(layer: keras.layers.Layer, inputs: Any) -> None:
    """Checks inputs against the `input_spec` of a layer, as a call does.

    Since Keras 3.0. A check in `Layer.compute_output_spec` would make this needless.

    Raises:
        ValueError: If they do not fit.
    """
    layer._assert_input_compatibility(inputs)


def attribute_behind(owner: Any, name: str) -> str:
    """Returns the attribute that holds a size which a property of this name may show.

    All of Keras 3.12 to 3.15, whose properties `num_heads` and the like have no setters.
    """
    own = vars(owner)
    return f"_{name}" if name not in own and f"_{name}" in own else name
