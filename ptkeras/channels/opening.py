"""Sees through layers: runs their `call` on symbolic tensors, down to the layers that rules know.

The layer itself is not touched. What runs is a shadow of it: a copy of the object whose inner
layers are shadows too, with node lists of their own, and whose variables are symbolic tensors. So
nothing is built, counted, tracked or left behind in the user's model, and another thread that calls
it meanwhile notices nothing.
"""

from __future__ import annotations

import types
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
from keras.src.backend.common.keras_tensor import any_symbolic_tensors
from keras.src.models.functional import Functional
from keras.src.ops.node import Node
from keras.src.ops.symbolic_arguments import SymbolicArguments

from ptkeras.channels.leaves import is_changed

_ORIGINAL, _RECORDER = "_ptkeras_of", "_ptkeras_recorder"
# What is no part of what a layer computes; sharing it, or leaving it empty, spares copies.
_LEFT_ALONE = frozenset(
    ("_tracker", "_metrics", "_trainable_variables", "_non_trainable_variables", "_seed_generators")
)


class Weight(keras.Operation):
    """A variable as a symbolic tensor, the source of what is made of it.

    Attributes:
        variable: the variable.
        owner: the layer that holds it.
    """

    def __init__(self, variable: keras.Variable, owner: Any) -> None:
        super().__init__(name=variable.name)
        self.variable = variable
        self.owner = owner

    def call(self) -> Any:
        return self.variable.value


class Constant(keras.Operation):
    """An array as a symbolic tensor.

    Attributes:
        value: the array.
    """

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value

    def call(self) -> Any:
        return keras.ops.convert_to_tensor(self.value)


class OpenedNode:
    """One call that a layer makes inside of its own `call`.

    Attributes:
        operation: the layer or operation that is called, the user's own object.
        arguments: what it is called with, as a node of Keras has it.
        outputs: its symbolic results.
        reason: why it could not be seen through; None if there was no need to.
        owner: the layer in whose `call` an operation is, which holds the variables that it reads;
            None for the call of a layer.
    """

    is_input = False

    def __init__(
        self, operation: Any, arguments: Any, outputs: list, reason: str | None, within: Any
    ) -> None:
        self.operation = operation
        self.owner = None if isinstance(operation, keras.layers.Layer) else within
        self.arguments = arguments
        self.outputs = outputs
        self.reason = reason

    @property
    def input_tensors(self) -> list[Any]:
        """The symbolic tensors among the arguments, in order."""
        return self.arguments.keras_tensors


class Opened(NamedTuple):
    """What a call of a layer is made of.

    Attributes:
        layer: the layer.
        arguments: (args, kwargs) of the call, with `inputs` for tensors.
        inputs: the symbolic tensors that it was called on.
        outputs: its results, as it returned them; parts that are no tensors are None.
        nodes: the calls inside of it, in the order in which they run.
        recorder: what has recorded them.
    """

    layer: Any
    arguments: tuple[tuple, dict]
    inputs: list[Any]
    outputs: Any
    nodes: list[OpenedNode]
    recorder: Recorder


class OpaqueError(Exception):
    """A layer cannot be seen through; the message says why."""


def open_call(
    layer: Any, args: tuple, kwargs: dict, is_leaf: Callable[[Any], bool], batch: int = 2
) -> Opened:
    """Runs the `call` of a layer on symbolic tensors.

    Args:
        layer: a built layer or model.
        args: what it is called with; symbolic tensors among it stand for tensors.
        kwargs: the same by name.
        is_leaf: whether a layer is to be left closed.
        batch: what stands for a batch size that is not known. Code that reads sizes computes with
            numbers then, where None would end in an error; unknown lengths become 8.

    Raises:
        OpaqueError: If the layer cannot be seen through.
    """
    try:
        return _open(layer, args, kwargs, is_leaf, batch)
    except Exception as error:  # a user's code may raise anything
        raise OpaqueError(first_line(error)) from error


_LENGTH = 8


def _open(layer: Any, args: tuple, kwargs: dict, is_leaf: Callable, batch: int) -> Opened:
    inputs: list[Any] = []

    def fresh(value: Any) -> Any:
        if not isinstance(value, keras.KerasTensor):
            return value
        sizes = enumerate(value.shape)
        shape = tuple((_LENGTH if axis else batch) if n is None else n for axis, n in sizes)
        tensor = keras.KerasTensor(shape, dtype=value.dtype, name=value.name)
        inputs.append(tensor)
        return tensor

    arguments = keras.tree.map_structure(fresh, (args, kwargs))
    runs = []
    for training in _trainings(layer, kwargs):
        recorder = Recorder(is_leaf)
        outputs, nodes = record(recorder, layer, arguments, inputs, training)
        runs.append(Opened(layer, arguments, inputs, outputs, nodes, recorder))
    if len(runs) > 1 and _steps(runs[0]) != _steps(runs[1]):
        raise OpaqueError("it computes something else in training.")
    return runs[0]


def record(
    recorder: Recorder, layer: Any, arguments: tuple[tuple, dict], inputs: list, training: dict
) -> tuple[Any, list[OpenedNode]]:
    """Runs the shadow of a layer; returns its outputs and the nodes that lead to them."""
    args, kwargs = arguments
    recorder._layer = layer
    with keras.StatelessScope(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outputs = recorder.shadow(layer)(*args, **kwargs, **training)
    return recorder.result(inputs, outputs)


def _trainings(layer: Any, kwargs: dict) -> list[dict]:
    """The values of `training` to call a layer with: both where it may make a difference."""
    if "training" in kwargs:
        return [{}]
    takes = getattr(layer, "_call_has_context_arg", {}).get("training", False)
    return [{"training": False}, {"training": True}] if takes else [{}]


def _steps(opened: Opened) -> list[tuple]:
    return [
        (id(n.operation) if isinstance(n.operation, keras.layers.Layer) else type(n.operation))
        for n in opened.nodes
    ]


class Recorder:
    """Makes the shadows of layers, and reads what they have called.

    Args:
        is_leaf: whether a layer is to be left closed.
    """

    def __init__(self, is_leaf: Callable[[Any], bool]) -> None:
        self.is_leaf = is_leaf
        self._shadows: dict[int, Any] = {}
        self._weights: dict[int, Any] = {}
        self._reasons: dict[int, str] = {}
        self.graphs: list[tuple[Any, list[Any]]] = []  # (a graph whose nodes ran, what they read)
        self._inside = False
        self._layer: Any = None

    def shadow(self, original: Any) -> Any:
        """The shadow of a layer or operation."""
        found = self._shadows.get(id(original))
        if found is not None:
            return found
        shadow = object.__new__(_shadow_class(type(original)))
        own = vars(shadow)
        own.update(vars(original))
        own[_ORIGINAL], own[_RECORDER] = original, self
        own["_inbound_nodes"], own["_outbound_nodes"] = [], []
        self._shadows[id(original)] = shadow
        if isinstance(original, keras.layers.Layer):
            own["_losses"], own["_loss_ids"] = [], set()
            if not self.is_leaf(original):
                self._open_attributes(original, own)
        return shadow

    def _open_attributes(self, original: Any, own: dict) -> None:
        for name, value in vars(original).items():
            if name not in _LEFT_ALONE and name not in ("_inbound_nodes", "_outbound_nodes"):
                new = self._part(value, original)
                if new is not value:
                    own[name] = new

    def _part(self, value: Any, owner: Any) -> Any:
        """What stands for an attribute's value, or for a part of it, in the shadow of its owner."""
        if isinstance(value, keras.layers.Layer):
            return self.shadow(value)
        if isinstance(value, keras.Variable):
            return self.weight(value, owner)
        if isinstance(value, types.MethodType) and isinstance(value.__self__, keras.layers.Layer):
            return types.MethodType(value.__func__, self.shadow(value.__self__))
        if isinstance(value, dict):
            new = {k: self._part(v, owner) for k, v in value.items()}
            return new if any(new[k] is not v for k, v in value.items()) else value
        if isinstance(value, (list, tuple, set)) and not _is_plain(value):
            parts = [self._part(v, owner) for v in value]
            if all(a is b for a, b in zip(parts, value, strict=True)):
                return value
            if hasattr(value, "_fields"):
                return type(value)(*parts)
            kind = next(k for k in (list, tuple, set) if isinstance(value, k))
            return kind(parts)
        return value

    def weight(self, variable: keras.Variable, owner: Any) -> Any:
        """The symbolic tensor of a variable."""
        if id(variable) not in self._weights:
            tensor = keras.KerasTensor(tuple(variable.shape), dtype=variable._dtype)
            Node(Weight(variable, owner), (), {}, tensor)
            self._weights[id(variable)] = tensor
        return self._weights[id(variable)]

    def constant(self, value: Any) -> Any:
        """A symbolic tensor for what is an array."""
        if isinstance(value, keras.KerasTensor) or not _is_array(value):
            return value
        array = keras.ops.convert_to_tensor(value)
        tensor = keras.KerasTensor(tuple(array.shape), dtype=array.dtype)
        Node(Constant(array), (), {}, tensor)
        return tensor

    def called(self, shadow: Any, call: Callable, args: tuple, kwargs: dict) -> Any:
        """Calls a shadow, on symbolic tensors whatever it is given."""
        original = vars(shadow)[_ORIGINAL]
        if not any_symbolic_tensors(args, kwargs) and original.variables:
            args, kwargs = keras.tree.map_structure(self.constant, (args, kwargs))
        if not original.built and not _needs_no_build(original):
            raise OpaqueError(f"its layer '{original.name}' is not built.")
        if self.is_leaf(original) or not any_symbolic_tensors(args, kwargs):
            return call(*args, **kwargs)
        # Keras makes a node of the call itself at its end: of a placeholder, since the results
        # have nodes of their own already.
        call(*args, **kwargs)
        outputs = vars(shadow).pop("_ptkeras_outputs")
        if original.supports_masking and args:
            masks = keras.tree.map_structure(_mask_of, args[0])
            keras.layers.Layer._set_mask_metadata(shadow, args[0], outputs, masks)
        return outputs

    def symbolic_call(self, shadow: Any, call: Callable, args: tuple, kwargs: dict) -> Any:
        """What Keras calls in place of `call` on symbolic tensors."""
        original = vars(shadow)[_ORIGINAL]
        if self.is_leaf(original):
            outputs = self.leaf_outputs(original, shadow, call, args, kwargs)
            if isinstance(original, keras.layers.EinsumDense):
                return _with_known_sizes(original, args[0], outputs)
            return outputs
        outermost, self._inside = not self._inside, True
        try:
            if is_changed(original):
                raise OpaqueError("it has quantized weights, or LoRA.")
            outputs = self._outputs(shadow.call(*args, **kwargs))
        except Exception as error:
            if outermost:
                raise
            # The inner layer as a whole is what cannot be seen through.
            outputs = self.opaque_outputs(original, shadow, args, kwargs)
            node = Node(shadow, args, kwargs, outputs)
            self._reasons[id(node)] = first_line(error)
        vars(shadow)["_ptkeras_outputs"] = outputs
        return keras.KerasTensor((1,))

    def leaf_outputs(
        self, original: Any, shadow: Any, call: Callable, args: tuple, kwargs: dict
    ) -> Any:
        """What a layer that is left closed returns."""
        return call(*args, **kwargs)

    def opaque_outputs(self, original: Any, shadow: Any, args: tuple, kwargs: dict) -> Any:
        """What a layer returns that cannot be seen through."""
        return _output_spec(original, args, kwargs)

    def _outputs(self, outputs: Any) -> Any:
        return keras.tree.map_structure(self.constant, outputs)

    def result(self, inputs: list[Any], outputs: Any) -> tuple[Any, list[OpenedNode]]:
        """The outputs and the nodes that lead to them, in the order in which they run."""
        outputs = keras.tree.map_structure(
            lambda x: x if isinstance(x, keras.KerasTensor) else None, outputs
        )
        flat = [x for x in keras.tree.flatten(outputs) if x is not None]
        if not flat:
            raise OpaqueError("it returns no tensor.")
        nodes = []
        for node in _nodes_to(flat, {id(x) for x in inputs}):
            own = vars(node.operation)
            operation = own.get(_ORIGINAL, node.operation)
            if operation is node.operation and isinstance(operation, keras.layers.Layer):
                # A layer that no attribute leads to, in a closure say, has been called itself.
                operation._inbound_nodes.remove(node)
            reason = self._reasons.get(id(node))
            arguments = self._with_variables(node.arguments)
            nodes.append(OpenedNode(operation, arguments, node.outputs, reason, self._layer))
        return outputs, nodes

    def _with_variables(self, arguments: Any) -> Any:
        """Arguments with variables in place of their tensors, where these meet others.

        What rules know of weights goes by the variable: which axis of a kernel reads channels.
        """
        tensors = arguments.keras_tensors
        weights = [x for x in tensors if isinstance(_maker(x), Weight)]
        if not weights or len(weights) == len(tensors):
            return arguments
        variables = {id(x): _maker(x).variable for x in weights}
        args, kwargs = arguments.convert(lambda x: variables.get(id(x), x))
        return SymbolicArguments(*args, **kwargs)

    def opened_layers(self) -> list[Any]:
        """The layers that were seen through."""
        originals = (vars(s)[_ORIGINAL] for s in self._shadows.values())
        return [x for x in originals if isinstance(x, keras.layers.Layer) and not self.is_leaf(x)]

    def calls_of(self, original: Any) -> list[Any]:
        """The nodes of the calls of a layer, in their order."""
        shadow = self._shadows.get(id(original))
        return [] if shadow is None else vars(shadow)["_inbound_nodes"]


def _nodes_to(outputs: list[Any], inputs: set[int]) -> Iterator[Any]:
    """The nodes that symbolic tensors come from, those before that they read first."""
    done: set[int] = set()
    stack: list[tuple[Any, bool]] = [(x, False) for x in reversed(outputs)]
    while stack:
        tensor, ready = stack.pop()
        if id(tensor) in inputs:
            continue
        operation, index, _ = tensor._keras_history
        if operation is None:
            raise OpaqueError("it reads a tensor from elsewhere.")
        node = operation._inbound_nodes[index]
        if id(node) in done:
            continue
        if ready:
            done.add(id(node))
            yield node
            continue
        stack.append((tensor, True))
        stack.extend((x, False) for x in reversed(node.input_tensors) if id(x) not in inputs)


_SHADOW_CLASSES: weakref.WeakKeyDictionary[type, Any] = weakref.WeakKeyDictionary()


def _shadow_class(cls: type) -> type:
    """A class whose calls a recorder sees, and which is the class else."""
    reference = _SHADOW_CLASSES.get(cls)
    found = None if reference is None else reference()
    if found is None:
        found = _new_shadow_class(cls)
        _SHADOW_CLASSES[cls] = weakref.ref(found)
    return found


def _new_shadow_class(cls: type) -> type:
    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N807
        call = types.MethodType(cls.__call__, self)
        return vars(self)[_RECORDER].called(self, call, args, kwargs)

    def symbolic_call(self: Any, *args: Any, **kwargs: Any) -> Any:
        call = types.MethodType(cls.symbolic_call, self)
        return vars(self)[_RECORDER].symbolic_call(self, call, args, kwargs)

    def run_through_graph(
        self: Any, inputs: Any, operation_fn: Callable = lambda op: op, call_fn: Any = None
    ) -> Any:
        recorder = vars(self)[_RECORDER]
        recorder.graphs.append((vars(self)[_ORIGINAL], keras.tree.flatten(inputs)))
        shadow = recorder.shadow
        return cls._run_through_graph(self, inputs, lambda op: operation_fn(shadow(op)), call_fn)

    own: dict[str, Any] = {"__module__": cls.__module__, "__doc__": cls.__doc__}
    if issubclass(cls, keras.layers.Layer):
        own |= {"__call__": __call__, "symbolic_call": symbolic_call}
        own["add_loss"] = lambda self, loss: None
    if issubclass(cls, Functional):
        own["_run_through_graph"] = run_through_graph
        own["__new__"] = object.__new__
    return type(cls)(cls.__name__, (cls,), own)


def first_line(error: BaseException) -> str:
    """What an error says, without the lines that Keras puts around it for each layer."""
    lines = str(error).replace("\x1b[1m", "").replace("\x1b[0m", "").splitlines()
    told = (line.strip() for line in lines)
    own = (x for x in told if x and not x.startswith(("Exception encountered", "Could not auto")))
    return next(own, type(error).__name__)


def _output_spec(layer: Any, args: tuple, kwargs: dict) -> Any:
    """What a layer returns that cannot be seen through."""
    try:
        return layer.compute_output_spec(*args, **kwargs)
    except TypeError:  # one of its own that takes no `training`
        known = {k: v for k, v in kwargs.items() if k not in ("training", "mask")}
        return layer.compute_output_spec(*args, **known)


def _with_known_sizes(layer: Any, x: Any, y: Any) -> Any:
    """The output of an `EinsumDense` with the sizes of its input.

    Keras leaves open what the layer was not told, although the input says it.
    """
    first, _, last = layer.equation.replace(" ", "").replace("->", ",").split(",")
    known = dict(zip(einsum_axes(first, len(x.shape)), x.shape, strict=True))
    axes = zip(einsum_axes(last, len(y.shape)), y.shape, strict=True)
    return keras.KerasTensor([known.get(a, n) for a, n in axes], dtype=y.dtype)


def einsum_axes(term: str, rank: int) -> list[str]:
    """One label an axis; those that an ellipsis stands for are numbered from the right."""
    before, dots, after = term.partition("...")
    hidden = rank - len(before) - len(after) if dots else 0
    return [*before, *(f".{i}" for i in reversed(range(hidden))), *after]


def _is_plain(values: Any) -> bool:
    return all(isinstance(v, (int, float, str, type(None))) for v in values)


def _is_array(value: Any) -> bool:
    if value is None or isinstance(value, (bool, int, float, str)):
        return False
    return isinstance(value, (np.ndarray, keras.Variable)) or keras.ops.is_tensor(value)


def _maker(tensor: Any) -> Any:
    history = getattr(tensor, "_keras_history", None)
    return None if history is None else history.operation


def _mask_of(tensor: Any) -> Any:
    return getattr(tensor, "_keras_mask", None)


def _needs_no_build(layer: Any) -> bool:
    """Whether a layer has nothing to make before it is called."""
    return type(layer).build is keras.layers.Layer.build
