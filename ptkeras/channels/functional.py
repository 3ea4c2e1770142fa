"""The plain Functional model of what any model computes, from Keras's own layers and operations."""

from __future__ import annotations

import types
import weakref
from collections import Counter
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from ptkeras.channels.graph import functional_of, given_to, is_graph, nodes_of
from ptkeras.channels.inputs import symbolic_inputs
from ptkeras.channels.leaves import is_leaf
from ptkeras.channels.opening import (
    Constant,
    OpaqueError,
    Opened,
    OpenedNode,
    Weight,
    copied,
    forget_masks,
    open_call,
    outputs_for,
    tensors_in,
)
from ptkeras.channels.operands import is_array
from ptkeras.channels.rules_moves import is_move
from ptkeras.keras_compat.calls import call_signature
from ptkeras.keras_compat.graph import mask_of, output_structure, set_keras_mask
from ptkeras.keras_compat.layers import (
    BaseConv,
    BaseConvTranspose,
    BaseDepthwiseConv,
    BaseSeparableConv,
)
from ptkeras.keras_compat.nodes import copy_operation
from ptkeras.keras_compat.operations import keras_numpy
from ptkeras.keras_compat.weights import replace_kernel

# A batch size that no other size is a multiple of: where it turns up, the batch is meant.
BATCH = 1009
# Another one: what else depends on the batch size differs between the two.
OTHER_BATCH = 1013


def as_functional(model: keras.Model, input_shape: Any = None) -> keras.Model:
    """Returns the plain Functional model that computes what a model computes.

    It is made of Keras's own layers and operations, opened up to any depth, so that it saves,
    loads (without ptkeras, and without the classes of the model) and exports. It shares the
    variables of the model: what trains one trains the other. Make it again after a reconfiguration.

    ```python
    ptkeras.as_functional(model).save("small.keras")
    ```

    Layers that cannot be seen through are in it as they are, and need their classes when the file
    is loaded; so do those that draw random numbers, which no layer of Keras does in inference. What
    operations a layer adds in training (stochastic depth) is left out. Scalar variables are copied,
    since no layer of Keras holds one.

    Args:
        model: a built model of any kind.
        input_shape: shape of one example, without the batch axis, for a model that leaves sizes
            open; a structure of shapes for one of several inputs.

    Returns:
        A `keras.Model`, not compiled.

    Raises:
        ValueError: If the model is not built, or its code uses the batch size otherwise than in
            shapes.
    """
    inputs = symbolic_inputs(model, input_shape)
    if not is_graph(model):
        inputs = _with_integers(model, inputs)
    writer = _Writer(model)
    outputs = writer.write(inputs)
    graph = functional_of(model) if is_graph(model) else None
    new = keras.Model(writer.inputs, outputs, name=model.name)
    if graph is not None:
        new.output_names = list(graph.output_names)
    return new


class BatchError(ValueError):
    """The code of a model makes an array that is another one for each batch size."""


_CACHE: weakref.WeakKeyDictionary[Any, tuple[Any, Any]] = weakref.WeakKeyDictionary()


def leaf_graph(model: keras.Model, input_shape: Any = None) -> keras.Model:
    """Returns the model itself, if it is a graph of leaves, or else what `as_functional` makes.

    The result of the last call is kept until the model changes its sizes.

    Args:
        model: a built model of any kind.
        input_shape: see `as_functional`; of no effect on a graph of leaves.
    """
    if is_graph(model) and not has_composites(model):
        return model
    weights = [(id(v), tuple(v.shape)) for v in model.variables]
    outputs = [id(x) for x in functional_of(model).outputs] if is_graph(model) else []
    key = weights, outputs, str(input_shape)
    known = _CACHE.get(model)
    if known is None or known[0] != key:
        known = _CACHE[model] = key, as_functional(model, input_shape)
    return known[1]


def has_composites(model: Any) -> bool:
    """Whether a graph calls layers that are not known as a whole, in nested models too."""
    return any(
        has_composites(node.operation) if is_graph(node.operation) else _is_composite(node)
        for node in nodes_of(model)
    )


def _is_composite(node: Any) -> bool:
    layer = node.operation
    return isinstance(layer, layers.Layer) and not is_leaf(layer)


def _with_integers(model: keras.Model, inputs: tuple[tuple, dict]) -> tuple[tuple, dict]:
    """The inputs of a model, as integers where its code takes rows of something by them.

    A model does not say what types it was called on.
    """
    try:
        opened = open_call(model, *inputs, is_leaf)
    except OpaqueError:
        return inputs
    source = {id(own): id(given) for own, given in opened.inputs}
    numbers = set()
    for node in opened.nodes:
        arguments = node.arguments
        if isinstance(node.operation, keras_numpy.Take):
            indices = arguments.args[1] if arguments.args[1:] else arguments.kwargs["indices"]
            numbers.add(source.get(id(indices)))
        elif is_move(node.operation) and len(node.input_tensors) == 1:
            found = source.get(id(node.input_tensors[0]))
            source |= {id(x): found for x in node.outputs if found is not None}

    def integer(x: Any) -> Any:
        taken = isinstance(x, keras.KerasTensor) and id(x) in numbers
        return keras.KerasTensor(x.shape, dtype="int32", name=x.name) if taken else x

    return keras.tree.map_structure(integer, inputs)


class _Writer:
    """Calls the layers and operations of a model on the inputs of a new one."""

    def __init__(self, model: keras.Model) -> None:
        self.model = model
        self.inputs: Any = None
        self.new: dict[int, Any] = {}
        self.made: dict[int, Any] = {}
        self.weights: dict[int, Any] = {}
        self.names: Counter[str] = Counter()
        self.kept: list[Any] = []  # what goes by its `id` has to live

    def write(self, given: tuple[tuple, dict]) -> Any:
        """The outputs of the new model for inputs like those of the old one."""
        keys = {id(x): path[-1] for path, x in keras.tree.flatten_with_path(given)}

        def new_input(x: Any) -> Any:
            key = keys[id(x)]  # of a dict: Keras takes inputs by these names
            name = _input_name(key if isinstance(key, str) else x.name, self.names)
            shape = (None, *x.shape[1:]) if len(x.shape) else x.shape
            tensor = keras.Input(batch_shape=shape, dtype=x.dtype, name=name)
            self.new[id(x)] = tensor
            return tensor

        args, kwargs = given
        struct = keras.tree.map_structure(new_input, (args, kwargs))
        new_args, new_kwargs = struct
        self.inputs = new_args[0] if len(new_args) == 1 and not new_kwargs else [*new_args]
        if new_kwargs:
            self.inputs = {**new_kwargs} if not new_args else [*new_args, *new_kwargs.values()]
        flat = keras.tree.flatten(self.inputs)
        self.first = flat[0]
        if is_graph(self.model):
            graph = functional_of(self.model)
            old = keras.tree.flatten((args, kwargs))
            self.graph(graph, [self.new[id(x)] for x in old])
            outputs = keras.tree.map_structure(lambda x: self.new[id(x)], output_structure(graph))
        else:
            self.new.update((id(x), x) for x in flat)
            opened = self.open(self.model, *struct)
            self.nodes(opened)
            outputs = keras.tree.map_structure(
                lambda x: self.new[id(x)] if isinstance(x, keras.KerasTensor) else None,
                opened.outputs,
            )
        return outputs

    def open(self, layer: Any, args: tuple, kwargs: dict) -> Opened:
        try:
            opened = open_call(layer, args, kwargs, is_leaf, batch=BATCH)
            if not _computes_alike(opened, self.with_other_batch(layer, args, kwargs)):
                raise BatchError(
                    f"The code of '{layer.name}' (a {type(layer).__name__}) computes with the "
                    "batch size: use a mean over the batch, or put that into a layer of its own."
                )
        except OpaqueError as error:
            if layer is not self.model:
                raise
            raise ValueError(
                f"'{self.model.name}' (a {type(self.model).__name__}) cannot be seen through: "
                f"{error} Build it with the functional API, keras.Model(inputs, outputs)."
            ) from error
        self.kept.append(opened)
        return opened

    def graph(self, graph: Any, inputs: list[Any]) -> list[Any]:
        """Writes the nodes of a graph; returns its outputs."""
        for tensor, value in zip(graph.inputs, inputs, strict=True):
            self.new[id(tensor)] = value
        for node in nodes_of(graph):
            self.node(node)
        return [self.new[id(x)] for x in graph.outputs]

    def nodes(self, opened: Opened) -> None:
        """Writes what a layer is made of."""
        self.new.update((id(own), self.new[id(given)]) for own, given in opened.inputs)
        for node in opened.nodes:
            self.node(node)

    def node(self, node: Any) -> None:
        """Writes one call."""
        operation = node.operation
        if isinstance(operation, Weight):
            outputs = [self.weight(operation.variable)]
        elif isinstance(operation, Constant):
            outputs = [self.constant(operation.value)]
        elif (opened := self.opened(node)) is not None:
            outputs = self.inside(node, opened)
        elif is_graph(operation):
            graph = functional_of(operation)
            args, kwargs = self.arguments(node)
            outputs = self.graph(graph, given_to(graph, args, kwargs))
            outputs = list(outputs)
        else:
            outputs = keras.tree.flatten(self.call(node))
        for tensor, value in zip(node.outputs, outputs, strict=True):
            self.new[id(tensor)] = value

    def inside(self, node: Any, opened: Opened) -> list[Any]:
        """Writes what a layer is made of; the layer itself if that draws random numbers."""
        try:
            self.nodes(opened)
        except BatchError:
            return keras.tree.flatten(self.call(node))
        results = outputs_for(opened, node) or []
        outputs = [None if x is None else self.new[id(x)] for x in results]
        for tensor, output in zip(results, outputs, strict=True):
            if tensor is not None and (mask := self.new.get(id(mask_of(tensor)))) is not None:
                set_keras_mask(output, mask)
        return outputs

    def with_other_batch(self, layer: Any, args: tuple, kwargs: dict) -> Opened:
        """Opens a layer on the same tensors with another batch size."""
        (args, kwargs), _ = copied((args, kwargs), _other_shape)
        return open_call(layer, args, kwargs, is_leaf, batch=OTHER_BATCH)

    def opened(self, node: Any) -> Opened | None:
        """What a layer is made of; None for a leaf, and for one that cannot be seen through."""
        if isinstance(node, OpenedNode):
            return node.opened
        if not _is_composite(node):
            return None
        args, kwargs = self.arguments(node)
        given = tensors_in((args, kwargs))
        if any(None in x.shape[1:] for x in given):
            raise ValueError(
                f"'{self.model.name}' leaves sizes of its inputs open, and '{node.operation.name}' "
                "may compute with them: pass input_shape=, the shape of one example."
            )
        for x in given:
            self.new |= {id(x): x}
            if (mask := mask_of(x)) is not None:
                self.new[id(mask)] = mask
        try:
            opened = self.open(node.operation, args, kwargs)
        except (OpaqueError, BatchError):
            return None
        return None if outputs_for(opened, node) is None else opened

    def arguments(self, node: Any) -> tuple[tuple, dict]:
        """What a call is called with in the new model."""

        def value(x: Any) -> Any:
            if isinstance(x, keras.KerasTensor):
                return self.new[id(x)]
            if isinstance(x, keras.Variable):
                return self.weight(x)
            return self.constant(x) if is_array(x) else x

        args, kwargs = node.arguments.convert(value)
        if isinstance(node.operation, layers.Layer) and not kwargs.get("training"):
            kwargs.pop("training", None)  # it was handed on: Keras does so by itself
        return args, kwargs

    def call(self, node: Any) -> Any:
        operation = node.operation
        args, kwargs = self.arguments(node)
        if isinstance(operation, keras_numpy.Reshape):
            return self.reshape(node, args[0] if args else kwargs["x"])
        x: Any = args[0] if args else kwargs.get("x")
        if isinstance(operation, keras_numpy.Squeeze) and None in x.shape[1:]:
            return self.reshape(node, x)  # which needs no axis to be known as 1
        if isinstance(operation, keras_numpy.BroadcastTo) and _has_batch(node):
            return self.over_batch(x, node.outputs[0].shape)
        if isinstance(operation, keras_numpy.Tile):
            return self.tile(operation, x, node.outputs[0].shape)
        if isinstance(operation, layers.Layer) and not isinstance(node, OpenedNode):
            kwargs = _with_masks(operation, args, kwargs)
        if isinstance(operation, layers.MultiHeadAttention):
            kwargs = _with_query_mask(kwargs)
        activation = _activation_of_others(operation)
        outputs = self.copy_of(operation)(*args, **kwargs)
        if activation is not None:
            outputs = activation(outputs)
        if isinstance(operation, layers.MultiHeadAttention):
            forget_masks(args, kwargs)
        return outputs

    def tile(self, operation: Any, x: Any, shape: tuple) -> Any:
        """A repetition, over the batch among others."""
        repeats = [operation.repeats] if np.ndim(operation.repeats) == 0 else operation.repeats
        repeats = [int(n) for n in repeats]
        own = [1 if n % BATCH == 0 else n for n in repeats]
        tiled = ops.tile(x, own)
        return tiled if own == repeats else self.over_batch(tiled, shape)

    def copy_of(self, operation: Any) -> Any:
        """The operation for the new graph: its own nodes, and a name that nothing else has."""
        if id(operation) not in self.made or not isinstance(operation, layers.Layer):
            new = copy_operation(operation)
            vars(new)["name"] = self.name(operation)
            vars(new).update(_training_settings_of_others(operation))
            if _activation_of_others(operation) is not None:
                vars(new)["activation"] = keras.activations.linear
            if type(operation) is layers.Identity:  # which has no config if it was given a policy
                new = layers.Identity(name=vars(new)["name"], dtype=operation.dtype_policy.name)
            self.made[id(operation)] = new
            self.kept.append(operation)
        return self.made[id(operation)]

    def name(self, operation: Any) -> str:
        path = getattr(operation, "path", None) or operation.name
        for name in (operation.name, path.replace("/", "_")):
            if not self.names[name]:
                self.names[name] += 1
                return name
        name = operation.name
        while self.names[name]:
            self.names[operation.name] += 1
            name = f"{operation.name}_{self.names[operation.name] - 1}"
        self.names[name] += 1
        return name

    def reshape(self, node: Any, x: Any) -> Any:
        """A reshape whose batch size is open."""
        target = tuple(node.outputs[0].shape)
        if not any(n is not None and n % BATCH == 0 for n in target):
            shape = tuple(-1 if n is None else n for n in target)
        else:
            shape = tuple(-1 if n is None or n % BATCH == 0 else n for n in target)
        if shape.count(-1) > 1:
            if shape[0] != -1:
                raise ValueError(f"'{self.model.name}' has a reshape to {shape}: two open sizes.")
            return layers.Reshape(shape[1:], name=self.name(node.operation))(x)
        return keras_numpy.Reshape(shape, name=self.name(node.operation))(x)

    def over_batch(self, x: Any, shape: tuple) -> Any:
        """A tensor that is the same for each example, repeated over the batch."""
        zeros = ops.sum(
            ops.zeros_like(self.first, dtype=x.dtype), list(range(1, len(self.first.shape)))
        )
        zeros = ops.reshape(zeros, (-1, *[1] * (len(shape) - 1)))
        rest = tuple(1 if n is None or n % BATCH == 0 else n for n in shape)
        if len(x.shape) == len(shape) and x.shape[0] is None:
            return ops.add(x, ops.zeros(rest, dtype=x.dtype))
        if rest != tuple(x.shape)[-len(rest) :] and len(rest) > 1:
            x = ops.broadcast_to(x, rest)
        return ops.add(zeros, x)

    def weight(self, variable: keras.Variable) -> Any:
        """A variable as the output of a layer of Keras that holds it."""
        if id(variable) not in self.weights:
            self.weights[id(variable)] = self.new_weight(variable)
        return self.weights[id(variable)]

    def new_weight(self, variable: keras.Variable) -> Any:
        one = ops.reshape(ops.ones_like(ops.sum(self.first), dtype=variable.dtype), (1,))
        shape = tuple(variable.shape)
        letters = "abcdefghijklm"[: max(len(shape), 1)]
        layer = layers.EinsumDense(
            f"n,{letters}->n{letters}",
            output_shape=shape or (1,),
            kernel_initializer="zeros",  # integers cannot be drawn
            dtype=variable.dtype,
            name=self.name(variable),
        )
        value = layer(one)
        if shape:
            replace_kernel(layer, variable)
        else:
            layer.kernel.assign(np.reshape(keras.ops.convert_to_numpy(variable), (1,)))
        return ops.reshape(value, shape)

    def constant(self, value: Any) -> Any:
        array = keras.ops.convert_to_numpy(value)
        if not any(n and n % BATCH == 0 for n in array.shape):
            return value
        axis = next(a for a, n in enumerate(array.shape) if n and n % BATCH == 0)
        first = array.take([0], axis)
        if axis or not (array == first).all():
            raise BatchError(
                f"The code of '{self.model.name}' makes an array that depends on the batch size "
                "or is drawn at random: put that into a layer of its own."
            )
        return self.over_batch(ops.convert_to_tensor(first), tuple(array.shape))


def _training_settings_of_others(operation: Any) -> dict[str, None]:
    """The initializers, regularizers and constraints that are no classes of Keras, set to None.

    A file could not be loaded without their classes. What acts on a variable is held by that.
    """
    if not isinstance(operation, layers.Layer):
        return {}
    return {
        name: None
        for name, value in vars(operation).items()
        if name.endswith(("_initializer", "_regularizer", "_constraint"))
        and value is not None
        and not type(value).__module__.startswith("keras.")
    }


# Layers whose activation is the last thing that they compute.
_ACTIVATED = (
    *(layers.Activation, layers.Dense, layers.EinsumDense),
    *(BaseConv, BaseDepthwiseConv, BaseConvTranspose, BaseSeparableConv),
)


def _activation_of_others(operation: Any) -> Any:
    """The activation of a layer that is no function of Keras, if it is made of operations.

    A file could not be loaded without the function, but its operations can be written out.
    """
    activation = getattr(operation, "activation", None)
    if not isinstance(operation, _ACTIVATED) or not isinstance(activation, types.FunctionType):
        return None
    if activation.__module__.startswith("keras.") or not is_leaf(operation):
        return None
    try:
        activation(keras.KerasTensor((2, 3)))
    except Exception:  # an operation of the backend, which no symbolic tensor goes through
        return None
    return activation


def _with_masks(layer: Any, args: tuple, kwargs: dict) -> dict:
    """The keywords of a call with the masks on its tensors, as Keras hands them on by itself.

    It does so again when the model runs, but only from one layer to the next.
    """
    signature = call_signature(layer)
    given = signature.bind(*args, **kwargs).arguments
    tensors = {name: value for name, value in given.items() if tensors_in(value)}
    names = {name: f"{name}_mask" for name in tensors} if len(tensors) > 1 else None
    masks = {}
    for name, value in tensors.items():
        parameter = "mask" if names is None else names[name]
        mask = keras.tree.map_structure(mask_of, value)
        known = parameter in signature.parameters and given.get(parameter) is None
        if known and tensors_in(mask):
            masks[parameter] = mask
    return kwargs | masks


def _with_query_mask(kwargs: dict) -> dict:
    """The keywords of a MultiHeadAttention with the mask of the query in the attention's mask.

    Keras reads the former from the tensor alone, which loses it on the way through operations.
    """
    query = kwargs.get("query_mask")
    if query is None:
        return kwargs
    mask, query = kwargs.get("attention_mask"), ops.cast(ops.expand_dims(query, -1), "bool")
    if mask is not None:
        if len(mask.shape) == 4:
            query = ops.expand_dims(query, 1)
        query = ops.logical_and(query, ops.cast(mask, "bool"))
    return {k: v for k, v in kwargs.items() if k != "query_mask"} | {"attention_mask": query}


def _other_shape(tensor: Any) -> tuple[int | None, ...]:
    return tuple(n // BATCH * OTHER_BATCH if n and n % BATCH == 0 else n for n in tensor.shape)


def _computes_alike(opened: Opened, other: Opened) -> bool:
    """Whether code computes with the same numbers, whatever the batch size.

    Sizes and repeats that shapes are made of may differ; they are written out for any batch.
    """
    if [type(n.operation) for n in opened.nodes] != [type(n.operation) for n in other.nodes]:
        return False
    return all(map(_is_alike, opened.nodes, other.nodes))


def _is_alike(node: OpenedNode, other: OpenedNode) -> bool:
    if node.opened is not None and other.opened is not None:
        return _computes_alike(node.opened, other.opened)
    pairs = zip(_numbers_of(node), _numbers_of(other), strict=False)
    return all(np.array_equal(_one_example(a), _one_example(b)) for a, b in pairs)


def _numbers_of(node: OpenedNode) -> list[Any]:
    """What is no tensor among what a node computes with."""
    operation = node.operation
    found = keras.tree.flatten((node.arguments.args, node.arguments.kwargs))
    if isinstance(operation, Constant):
        found.append(operation.value)
    elif not isinstance(operation, (layers.Layer, *_SIZED)):
        found += [value for name, value in vars(operation).items() if not name.startswith("_")]
    parts = [(x.start, x.stop, x.step) if isinstance(x, slice) else (x,) for x in found]
    return [x for part in parts for x in part if isinstance(x, (int, float)) or is_array(x)]


def _one_example(value: Any) -> np.ndarray:
    """An array, with size 1 along axes that have the batch in their size."""
    number = isinstance(value, (int, float))
    array = np.asarray(value if number else keras.ops.convert_to_numpy(value))
    sizes = enumerate(array.shape)
    axes = [axis for axis, n in sizes if n and (n % BATCH == 0 or n % OTHER_BATCH == 0)]
    for axis in axes:
        array = array.take([0], axis)
    return array


# Operations whose shapes are written out for any batch size.
_SIZED = (keras_numpy.Reshape, keras_numpy.BroadcastTo, keras_numpy.Tile)


def _has_batch(node: Any) -> bool:
    return any(n is not None and n % BATCH == 0 for n in node.outputs[0].shape)


def _input_name(name: str, names: Counter[str]) -> str:
    name = name.split(":")[0].replace("/", "_")
    names[name] += 1
    return name if names[name] == 1 else f"{name}_{names[name] - 1}"
