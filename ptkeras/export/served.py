"""What is exported of a model: named tensors in, named tensors out, in inference mode."""

from __future__ import annotations

import dataclasses
import numbers
import re
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from ptkeras.channels.graph import Functional, has_graph
from ptkeras.channels.leaf_graph import leaf_graph
from ptkeras.keras_compat.graph import input_structure, output_structure
from ptkeras.keras_compat.nodes import maker_of
from ptkeras.keras_compat.tracking import flatten_layers

HALF = ("float16", "bfloat16", "mixed_float16", "mixed_bfloat16")


@dataclasses.dataclass(frozen=True)
class Port:
    """One input.

    Attributes:
        name: its name in the artifact.
        shape: its shape with the batch axis, None where a size is open.
        dtype: the name of its dtype.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str


@dataclasses.dataclass(frozen=True)
class Serving:
    """What is asked of an artifact beside the network itself.

    Attributes:
        softmax: whether a softmax over the last axis of each output is part of it.
        mean: what is subtracted from each channel of the only input, or None.
        std: what each channel is then divided by, or None.
        input_shape: shape of one example, for sizes that the model leaves open; with several
            inputs, shapes by input name.
        batch_size: the only batch size that it takes, or None for any.
    """

    softmax: bool = False
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    input_shape: Any = None
    batch_size: int | None = None


class Served:
    """A model behind named inputs and outputs.

    Args:
        model: a built model of any kind.
        serving: what is asked of the artifact.

    Attributes:
        inputs: a `Port` per input.
        outputs: the names of the outputs.

    Raises:
        ValueError: it is another kind of model, or `serving` does not fit it.
    """

    def __init__(self, model: keras.Model, serving: Serving = Serving()) -> None:
        check_model(model)
        self.model = model
        self.serving = serving
        self._memory = keras.StatelessScope()
        self._input_structure, self._output_structure = _structures(model)
        taken: set[str] = set()
        names = _names(self._input_structure, taken)
        self.outputs = _names(self._output_structure, taken)
        self.inputs = _ports(keras.tree.flatten(self._input_structure), names, serving)
        self._scaling = _scaling(serving, self.inputs)
        if serving.softmax:
            _refuse_second_softmax(model)

    def __call__(self, *tensors: Any) -> dict[str, Any]:
        """Runs the model on backend tensors, one per input, in order."""
        values = list(tensors)
        if self._scaling is not None:
            mean, std = self._scaling
            values[0] = (keras.ops.cast(values[0], "float32") - mean) / std
        result = self.model(
            keras.tree.pack_sequence_as(self._input_structure, values), training=False
        )
        results = keras.tree.flatten(result)
        if self.serving.softmax:
            results = [keras.ops.softmax(keras.ops.cast(x, "float32")) for x in results]
        return dict(zip(self.outputs, results, strict=True))

    def in_float32(self) -> Served:
        """Returns the same for the model's twin in float32; see the function `in_float32`."""
        twin = Served(in_float32(self.model), self.serving)
        # Layers that a subclassed model makes without a name have other names in the twin.
        twin.outputs = self.outputs
        twin.inputs = [
            dataclasses.replace(new, name=old.name)
            for new, old in zip(twin.inputs, self.inputs, strict=True)
        ]
        return twin

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs the model on arrays by input name; what is floating point comes back as float32.

        The model stays as it is: what it writes, such as the state of a recurrent layer, is kept
        here for the next call.
        """
        values = [keras.ops.convert_to_tensor(feeds[p.name], dtype=p.dtype) for p in self.inputs]
        with self._memory:
            return {name: to_numpy(value) for name, value in self(*values).items()}

    def feeds(self, examples: Any) -> dict[str, np.ndarray]:
        """Examples as arrays by input name, in the dtypes of the inputs.

        Args:
            examples: an array, or arrays in the structure of the model's inputs, or by input name.

        Raises:
            ValueError: they are not what the model takes.
        """
        names = [port.name for port in self.inputs]
        if isinstance(examples, Mapping) and set(examples) == set(names):
            arrays = [np.asarray(examples[name]) for name in names]
        else:
            arrays = [np.asarray(value) for value in keras.tree.flatten(examples)]
        if len(arrays) != len(names):
            raise ValueError(
                f"The model takes {len(names)} inputs ({', '.join(names)}); received {len(arrays)}."
            )
        counts = {len(array) if array.ndim else 0 for array in arrays}
        if len(counts) > 1 or 0 in counts:
            raise ValueError("All inputs must hold the same number of examples, at least one.")
        feeds = {}
        for port, array in zip(self.inputs, arrays, strict=True):
            if array.ndim != len(port.shape) or any(
                size not in (None, got)
                for size, got in zip(port.shape[1:], array.shape[1:], strict=True)
            ):
                raise ValueError(
                    f"Input '{port.name}' has shape {port.shape}; received an array of shape "
                    f"{array.shape}."
                )
            feeds[port.name] = _in_dtype(port, array)
        return feeds

    def random_feeds(self, batch_size: int, seed: int = 0) -> dict[str, np.ndarray]:
        """Random examples: normal numbers, of the scale that is undone inside; 0 or 1 for integers.

        Open sizes become 32.
        """
        random = np.random.default_rng(seed)
        feeds = {}
        for port in self.inputs:
            shape = (batch_size, *(size or 32 for size in port.shape[1:]))
            if "float" in port.dtype:
                values = random.normal(size=shape).astype("float32")
                if self._scaling is not None:
                    mean, std = self._scaling
                    values = (values * std + mean).astype("float32")
            else:
                values = random.integers(0, 2, shape).astype(port.dtype)
            feeds[port.name] = values
        return feeds


def in_float32(model: keras.Model) -> keras.Model:
    """The model itself or, where it computes in half precision, its twin in float32.

    onnxruntime and LiteRT have next to no half precision operations for the CPU (bfloat16 none at
    all). Every float16 and bfloat16 number is a float32 one, so the twin has the same weights.
    """
    if not any(layer.dtype_policy.name in HALF for layer in flatten_layers(model)):
        return model
    from ptkeras.keras_compat.saving import SafeModeScope

    kinds = {type(layer).__name__: type(layer) for layer in flatten_layers(model)}
    home = type(model)
    if has_graph(model):
        home = keras.Sequential if isinstance(model, keras.Sequential) else Functional
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")  # that of layers which a subclassed model makes
    try:
        # The config comes from layers of this process: a Lambda may be made from it.
        with SafeModeScope(False), keras.saving.custom_object_scope(kinds):
            twin = home.from_config(_without_half(model.get_config()))
        if not twin.built:
            inputs, _ = _structures(model)
            twin(keras.tree.map_structure(lambda x: keras.KerasTensor(x.shape, x.dtype), inputs))
    finally:
        keras.config.set_dtype_policy(policy)
    for new, old in zip(twin.variables, model.variables, strict=True):
        new.assign(keras.ops.cast(old, new.dtype))
    return twin


def to_numpy(value: Any) -> np.ndarray:
    """An array; floating point numbers as float32, which NumPy can compare."""
    array = np.asarray(keras.ops.convert_to_numpy(value))
    return array.astype("float32") if keras.backend.is_float_dtype(str(array.dtype)) else array


def check_model(model: Any) -> None:
    """Raises a ValueError unless a model's inputs and outputs can be known."""
    leaf_graph(model)


def _structures(model: keras.Model) -> tuple[Any, Any]:
    graph = leaf_graph(model)
    if isinstance(model, keras.Sequential):
        return graph.inputs[0], graph.outputs[0]
    return input_structure(graph), output_structure(graph)


def _names(structure: Any, taken: set[str]) -> list[str]:
    """A name per tensor: its key in a dictionary or else that of its layer; none of them twice."""
    names = []
    for path, tensor in keras.tree.flatten_with_path(structure):
        keys = [part for part in path if isinstance(part, str)]
        wanted = "_".join(keys) if keys else maker_of(tensor).name
        base = re.sub(r"\W", "_", wanted, flags=re.ASCII).lstrip("_")
        if not base[:1].isalpha():  # TensorFlow puts something before it, and so may as well we
            base = f"tensor_{base}".rstrip("_")
        name = base
        number = 0
        while name in taken:
            number += 1
            name = f"{base}_{number}"
        taken.add(name)
        names.append(name)
    return names


def _ports(tensors: list[Any], names: list[str], serving: Serving) -> list[Port]:
    shapes = serving.input_shape
    if shapes is not None and not isinstance(shapes, Mapping):
        if len(names) > 1:
            raise ValueError(
                f"input_shape must name the inputs ({', '.join(names)}), since there are "
                f"{len(names)}; received {shapes}."
            )
        shapes = {names[0]: shapes}
    unknown = set(shapes or ()) - set(names)
    if unknown:
        raise ValueError(
            f"input_shape names {', '.join(sorted(unknown))}; the inputs are {', '.join(names)}."
        )
    return [
        Port(name, _shape(name, tensor, serving.batch_size, (shapes or {}).get(name)), tensor.dtype)
        for name, tensor in zip(names, tensors, strict=True)
    ]


def _shape(
    name: str, tensor: Any, batch_size: int | None, wanted: Sequence[int] | None
) -> tuple[int | None, ...]:
    own_batch, *sizes = tensor.shape
    if batch_size is not None and not (isinstance(batch_size, numbers.Integral) and batch_size > 0):
        raise ValueError(f"batch_size must be a whole number from 1; received {batch_size!r}.")
    if own_batch and batch_size and batch_size != own_batch:
        raise ValueError(
            f"Input '{name}' has a batch of {own_batch} in the model itself; received "
            f"batch_size={batch_size}."
        )
    if wanted is not None:
        fits = len(wanted) == len(sizes) and all(
            new is None or (new >= 1 and old in (None, new))
            for old, new in zip(sizes, wanted, strict=True)
        )
        if not fits:
            raise ValueError(
                f"input_shape {tuple(wanted)} does not fit input '{name}', whose examples have "
                f"shape {tuple(sizes)}."
            )
        sizes = wanted
    return (own_batch or batch_size, *sizes)


def _scaling(serving: Serving, inputs: list[Port]) -> tuple[np.ndarray, np.ndarray] | None:
    """The mean and the deviation, shaped to broadcast along the channels of the only input."""
    if serving.mean is None and serving.std is None:
        return None
    if len(inputs) > 1 or "float" not in inputs[0].dtype:
        raise ValueError("mean and std need a model with one input, of floating point numbers.")
    sizes = inputs[0].shape[1:]
    mean, std = (
        np.atleast_1d(np.asarray(default if values is None else values, "float32"))
        for values, default in ((serving.mean, 0.0), (serving.std, 1.0))
    )
    if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
        raise ValueError(f"mean must be finite and std over 0; received {mean} and {std}.")
    channels = max(mean.size, std.size)
    first = keras.config.image_data_format() == "channels_first" and len(sizes) > 1
    axis = 0 if first else len(sizes) - 1
    if {mean.size, std.size} - {1, sizes[axis]}:
        raise ValueError(
            f"mean and std must have one value, or one for each of the {sizes[axis]} channels of "
            f"'{inputs[0].name}'; received {mean.size} and {std.size}."
        )
    shape = [1] * len(sizes)
    shape[axis] = channels
    mean, std = (np.broadcast_to(values, channels).reshape(shape) for values in (mean, std))
    return mean, std


def _in_dtype(port: Port, array: np.ndarray) -> np.ndarray:
    """An array in the dtype of an input; NumPy has no bfloat16, float32 stands for it."""
    if array.dtype.kind not in "biuf":
        raise ValueError(f"Input '{port.name}' takes numbers; received {array.dtype}.")
    array = array.astype("float32" if port.dtype in HALF else port.dtype, copy=False)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"Input '{port.name}' received numbers that are not finite.")
    return array


def _refuse_second_softmax(model: keras.Model) -> None:
    for tensor in leaf_graph(model).outputs:
        operation = maker_of(tensor)
        activation = getattr(operation, "activation", None)
        if isinstance(operation, keras.layers.Softmax) or activation is keras.activations.softmax:
            raise ValueError(
                f"'{operation.name}' ends the model in a softmax already: leave softmax out."
            )


def _without_half(config: Any, key: str = "") -> Any:
    """A config with float32 in the place of every half precision dtype and policy."""
    if isinstance(config, dict):
        is_policy = "Policy" in str(config.get("class_name"))
        return {
            name: _without_half(value, "policy" if is_policy or key == "policy" else name)
            for name, value in config.items()
        }
    if isinstance(config, list | tuple):
        return type(config)(_without_half(value, key) for value in config)
    return "float32" if config in HALF and key != "name" else config
