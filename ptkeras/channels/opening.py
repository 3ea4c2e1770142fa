"""Sees through layers: runs their `call` on symbolic tensors, down to the layers that rules know.

The layer itself is not touched. What runs is a shadow of it: a copy of the object whose inner
layers are shadows too, with node lists of their own, and whose variables are symbolic tensors. So
nothing is built, counted, tracked or left behind in the user's model, and another thread that calls
it meanwhile notices nothing.
"""

from __future__ import annotations

import contextlib
import types
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras

from ptkeras.channels.graph import functional_of, given_to, is_graph
from ptkeras.channels.leaves import is_changed
from ptkeras.channels.operands import is_array
from ptkeras.keras_compat.calls import takes_training
from ptkeras.keras_compat.graph import (
    RUN_THROUGH_GRAPH,
    Functional,
    Node,
    SymbolicArguments,
    any_symbolic_tensors,
    mask_of,
    run_through_graph,
    set_keras_mask,
)
from ptkeras.keras_compat.layers import Merge
from ptkeras.keras_compat.nodes import (
    NODE_LISTS,
    inbound_nodes,
    maker_of,
    no_losses,
    no_nodes,
    node_of,
)
from ptkeras.keras_compat.operations import keras_core, keras_numpy
from ptkeras.keras_compat.tracking import RECORDS
from ptkeras.keras_compat.variables import dtype_of

_ORIGINAL, _RECORDER, _OUTPUTS = "_ptkeras_of", "_ptkeras_recorder", "_ptkeras_outputs"
_LENGTH = 8  # stands for a length that is not known
# What is no part of what a layer computes; sharing it, or leaving it empty, spares copies.
_LEFT_ALONE = RECORDS.union(NODE_LISTS)

# NumPy takes `array * tensor` upon itself, and asks a KerasTensor for numbers. With this it leaves
# the product to the tensor, as it does with the tensors of all backends.
keras.KerasTensor.__array_ufunc__ = None


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
        outputs: its symbolic results, and the masks that Keras sets on them.
        owner: the layer in whose `call` an operation is, which holds the variables that it reads;
            None for the call of a layer.
        opened: what a layer that is no leaf is made of; None if it cannot be seen through.
        reason: why it cannot.
    """

    is_input = False

    def __init__(self, operation: Any, arguments: Any, outputs: list, within: Any) -> None:
        self.operation = operation
        self.owner = None if isinstance(operation, keras.layers.Layer) else within
        self.arguments = arguments
        self.outputs = outputs
        self.opened: Opened | None = None
        self.reason: str | None = None

    @property
    def input_tensors(self) -> list[Any]:
        """The symbolic tensors among the arguments, in order."""
        return self.arguments.keras_tensors


class Opened(NamedTuple):
    """What a call of a layer is made of.

    Attributes:
        layer: the layer.
        arguments: (args, kwargs) of the call, with tensors of its own.
        inputs: (own, given) for each symbolic tensor that it was called on, and for the masks that
            Keras has set on these.
        outputs: what it returned, with symbolic tensors.
        results: the tensors among these, and then the masks that Keras has set on them.
        nodes: the calls inside of it, in the order in which they run.
        calls: for the `id` of each layer that it calls the `LayerCall`s, in their order.
        recorder: what has recorded them.
        training: `{"training": …}`, what it was called with besides; empty if the arguments say it.
        in_training: the same call in training, if other operations run then: those of a stochastic
            depth, say. None if there are no others.
    """

    layer: Any
    arguments: tuple[tuple, dict]
    inputs: list[tuple[Any, Any]]
    outputs: Any
    results: list[Any]
    nodes: list[OpenedNode]
    calls: dict[int, list[LayerCall]]
    recorder: Recorder
    training: dict[str, bool]
    in_training: Opened | None = None


class LayerCall(NamedTuple):
    """What a layer was called with inside of another one, and what it returned.

    Attributes:
        arguments: (args, kwargs), with symbolic tensors.
        outputs: the results.
        results: the symbolic tensors among them, and the masks on these.
    """

    arguments: tuple[tuple, dict]
    outputs: Any
    results: list[Any]


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
    if is_changed(layer):
        raise OpaqueError("it has quantized weights, or LoRA.")
    kwargs = {k: v for k, v in kwargs.items() if k != "training"}  # which is the model's to say
    runs = []
    try:
        for training in ({"training": False}, {"training": True}):
            recorder = Recorder(is_leaf, batch)
            runs.append(recorder.run(layer, args, kwargs, training))
            if not recorder.takes_training:
                break
        return runs[0] if len(runs) == 1 else _merged(*runs)
    except Exception as error:  # a user's code may raise anything
        raise OpaqueError(first_line(error)) from error


def _merged(inference: Opened, training: Opened) -> Opened:
    """What a layer does in inference, with what it does in training where that is different.

    Raises:
        OpaqueError: If it calls other layers with weights in training, or returns other shapes.
    """
    steps, others = ([_identity(n.operation) for n in x.nodes] for x in (inference, training))
    if steps == others:
        for pair in zip(inference.nodes, training.nodes, strict=True):
            _merge_node(*pair)
        return inference
    own, other = ({step for step in x if isinstance(step, int)} for x in (steps, others))
    if own != other or _shapes(inference) != _shapes(training):
        raise OpaqueError("it calls other layers in training.")
    return inference._replace(in_training=training)


def _merge_node(node: OpenedNode, training: OpenedNode) -> None:
    if node.opened is None or training.opened is None:
        node.opened, node.reason = None, node.reason or training.reason
        return
    try:
        node.opened = _merged(node.opened, training.opened)
    except OpaqueError as error:
        node.opened, node.reason = None, str(error)


def _identity(operation: Any) -> Any:
    """What two calls of one operation share; a layer without weights may be made in each call."""
    if isinstance(operation, Weight):
        return id(operation.variable)
    own = isinstance(operation, keras.layers.Layer) and operation.variables
    return id(operation) if own else type(operation)


def _shapes(opened: Opened) -> list[tuple]:
    return [tuple(x.shape) for x in tensors_in(opened.outputs)]


def tensors_in(structure: Any) -> list[Any]:
    """Returns the symbolic tensors in a structure."""
    return [x for x in keras.tree.flatten(structure) if isinstance(x, keras.KerasTensor)]


def results_of(outputs: Any) -> list[Any]:
    """Returns the symbolic tensors among some outputs, and then the masks that are on them."""
    tensors = tensors_in(outputs)
    return [*tensors, *(m for x in tensors if isinstance(m := mask_of(x), keras.KerasTensor))]


def outputs_for(opened: Opened, node: Any) -> list[Any] | None:
    """What a call really returns for each output that its layer has told Keras of.

    Args:
        opened: what the call is made of.
        node: the node of the call.

    Returns:
        A symbolic tensor or None for each of `node.outputs`; None if they are not as many.
    """
    if isinstance(node, OpenedNode):  # which tells the truth
        return opened.results[: len(node.outputs)]
    flat = keras.tree.flatten(opened.outputs)
    found = [x if isinstance(x, keras.KerasTensor) else None for x in flat]
    if len(found) != len(node.outputs):
        found = [x for x in found if x is not None]
    return found if len(found) == len(node.outputs) else None


def copied(
    structure: Any,
    shapes: Callable[[Any], tuple],
    has_mask: Callable[[Any], bool] = lambda mask: True,
) -> tuple[Any, list[tuple[Any, Any]]]:
    """Copies the symbolic tensors of a structure, with no history, and the masks on them.

    Args:
        structure: any structure.
        shapes: returns the shape of the copy of a tensor.
        has_mask: whether a mask is to be copied.

    Returns:
        The structure with the copies in it, and (copy, original) for each tensor and then for each
        mask.
    """
    pairs: list[tuple[Any, Any]] = []
    masks: list[tuple[Any, Any]] = []

    def copy(value: Any) -> Any:
        return keras.KerasTensor(shapes(value), dtype=value.dtype, name=value.name)

    def part(value: Any) -> Any:
        if not isinstance(value, keras.KerasTensor):
            return value
        pairs.append((copy(value), value))
        if isinstance(mask := mask_of(value), keras.KerasTensor) and has_mask(mask):
            masks.append((copy(mask), mask))
            set_keras_mask(pairs[-1][0], masks[-1][0])
        return pairs[-1][0]

    return keras.tree.map_structure(part, structure), [*pairs, *masks]


class _Reads(keras.StatelessScope):
    """Scope in which code may not read the numbers of a variable that is not symbolic.

    What it computes with them would be a constant: so with `layer.weights[0]`, which is a list
    that a shadow shares with its layer.
    """

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self._recorder = recorder

    def get_current_value(self, variable: keras.Variable) -> Any:
        if not self._recorder.leaves_running and "float" in variable.dtype:
            raise OpaqueError(f"it computes with the numbers of '{variable.path}'.")
        return super().get_current_value(variable)


class Recorder:
    """Makes the shadows of layers, and reads what they have called.

    Args:
        is_leaf: whether a layer is to be left closed.
        batch: what stands for a batch size that is not known.

    Attributes:
        takes_training: whether the code of a layer that was seen through asks for `training`.
        leaves_running: how many calls of leaves, one in the other, run.
    """

    def __init__(self, is_leaf: Callable[[Any], bool], batch: int = 2) -> None:
        self.is_leaf = is_leaf
        self.takes_training = False
        self.leaves_running = 0
        self._batch = batch
        self._shadows: dict[int, Any] = {}
        self._weights: dict[int, Any] = {}
        self._inside: dict[int, Opened | str] = {}
        self.graphs: list[tuple[Any, list[Any]]] = []  # (a graph whose nodes ran, what they read)
        self._arguments: dict[int, tuple[tuple, dict]] = {}
        self._calls: list[dict[int, list[LayerCall]]] = []  # of each layer that runs, inmost last

    def run(self, layer: Any, args: tuple, kwargs: dict, training: dict) -> Opened:
        """Runs the code of a layer."""
        (args, kwargs), inputs = copied((args, kwargs), self._closed_shape)
        masked = [(own, mask_of(own)) for own, _ in inputs]
        with _Reads(self), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outputs = self.shadow(layer)(*args, **kwargs, **training)
        for own, mask in masked:
            if mask is not None:
                set_keras_mask(own, mask)
        for copy, output in self._copies:
            if mask_of(output) is None and mask_of(copy) is not None:
                set_keras_mask(output, mask_of(copy))
        return self._opened(layer, (args, kwargs), inputs, outputs, self._outermost, training)

    def _closed_shape(self, tensor: Any) -> tuple[int | None, ...]:
        sizes = enumerate(tensor.shape)
        return tuple((_LENGTH if axis else self._batch) if n is None else n for axis, n in sizes)

    def shadow(self, original: Any) -> Any:
        """The shadow of a layer or operation."""
        found = self._shadows.get(id(original))
        if found is not None:
            return found
        shadow: Any = object.__new__(_shadow_class(type(original)))
        own = vars(shadow)
        own.update(vars(original))
        own[_ORIGINAL], own[_RECORDER] = original, self
        own.update(no_nodes())
        self._shadows[id(original)] = shadow
        if isinstance(original, keras.layers.Layer):
            own.update(no_losses())
            if not original.built:  # else Keras would build the original
                own["build"] = types.MethodType(type(original).build, shadow)
            if self.is_leaf(original):
                own.update(self._weights_of_leaf(original))
            else:
                self._open_attributes(original, own)
        return shadow

    def _weights_of_leaf(self, original: Any) -> dict[str, Any]:
        """The variables of a leaf as symbolic tensors: code may read them beside calling it."""
        return {
            name: self.weight(value, original)
            for name, value in vars(original).items()
            if isinstance(value, keras.Variable)
        }

    def _open_attributes(self, original: Any, own: dict) -> None:
        for name, value in vars(original).items():
            if name not in _LEFT_ALONE:
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
            tensor = keras.KerasTensor(self._weight_shape(variable), dtype=dtype_of(variable))
            Node(Weight(variable, owner), (), {}, tensor)
            self._weights[id(variable)] = tensor
        return self._weights[id(variable)]

    def _weight_shape(self, variable: keras.Variable) -> tuple[int | None, ...]:
        return tuple(variable.shape)

    def constant(self, value: Any) -> Any:
        """A symbolic tensor for what is an array."""
        if not is_array(value):
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
        outputs = call(*args, **kwargs)
        returned, own = vars(shadow).pop(_OUTPUTS, (outputs, outputs))
        if returned is not outputs:
            raise OpaqueError(f"'{original.name}' has a `__call__` that returns something else.")
        return own

    def symbolic_call(self, shadow: Any, call: Callable, args: tuple, kwargs: dict) -> Any:
        """What Keras calls in place of `call` on symbolic tensors."""
        original = vars(shadow)[_ORIGINAL]
        if not self._calls:
            self._outermost: dict[int, list[LayerCall]] = {}
            outputs = self._run_code(shadow, args, kwargs, self._outermost)
            # Keras takes what is returned as made by the layer, and sets masks on it.
            _, self._copies = copied(outputs, self._closed_shape)
            return self._returned(shadow, outputs, [x for x, _ in self._copies])
        outputs = self.inner_call(original, shadow, call, args, kwargs)
        results = results_of(outputs)
        made = LayerCall((args, dict(kwargs)), outputs, results)
        self._calls[-1].setdefault(id(original), []).append(made)
        self._arguments.update((id(x), made.arguments) for x in results[:1])
        return outputs if self.is_leaf(original) else self._returned(shadow, outputs, results)

    def _returned(self, shadow: Any, outputs: Any, results: list[Any]) -> list[Any]:
        """What Keras makes the outputs of a node of; the code gets what there is in truth."""
        returned = results or [keras.KerasTensor((1,))]
        vars(shadow)[_OUTPUTS] = returned, outputs
        return returned

    def inner_call(
        self, original: Any, shadow: Any, call: Callable, args: tuple, kwargs: dict
    ) -> Any:
        """What a layer returns that another one calls."""
        if self.is_leaf(original) and _fits(original, args, kwargs):
            with self._leaf_runs(original, shadow):
                outputs = call(*args, **kwargs)
            if isinstance(original, keras.layers.MultiHeadAttention):
                forget_masks(args, kwargs)
            if isinstance(original, keras.layers.EinsumDense):
                return _with_known_sizes(original, args[0], outputs)
            return outputs
        try:
            if is_changed(original):
                raise OpaqueError("it has quantized weights, or LoRA.")
            opened = self._open(original, shadow, args, kwargs)
        except Exception as error:
            # The inner layer as a whole is what cannot be seen through.
            outputs = _output_spec(original, args, kwargs)
            self._inside.update((id(x), first_line(error)) for x in tensors_in(outputs)[:1])
            return outputs
        outputs, pairs = copied(opened.outputs, lambda x: tuple(x.shape))
        self._inside.update((id(x), opened) for x, _ in pairs[:1])
        return outputs

    @contextlib.contextmanager
    def _leaf_runs(self, original: Any, shadow: Any) -> Iterator[None]:
        """Gives a leaf its variables back for a while: its own code computes with them."""
        own = vars(shadow)
        symbolic = {k: own[k] for k, v in vars(original).items() if isinstance(v, keras.Variable)}
        own.update((name, vars(original)[name]) for name in symbolic)
        self.leaves_running += 1
        try:
            yield
        finally:
            self.leaves_running -= 1
            own.update(symbolic)

    def _open(self, original: Any, shadow: Any, args: tuple, kwargs: dict) -> Opened:
        arguments, inputs = copied((args, kwargs), self._closed_shape)
        calls: dict[int, list[LayerCall]] = {}
        masked = [(own, given, mask_of(own)) for own, given in inputs]
        args, kwargs = arguments
        outputs = self._run_code(shadow, args, kwargs, calls)
        for own, given, mask in masked:
            if mask is not None and mask_of(own) is None:
                set_keras_mask(given, None)
                set_keras_mask(own, mask)
        return self._opened(original, arguments, inputs, outputs, calls, {})

    def _run_code(self, shadow: Any, args: tuple, kwargs: dict, calls: dict) -> Any:
        """Runs the `call` of a shadow; notes the calls of layers in it."""
        original = vars(shadow)[_ORIGINAL]
        self.takes_training |= takes_training(original)
        self._calls.append(calls)
        try:
            if is_graph(original):
                graph = functional_of(original)
                given = given_to(graph, args, kwargs)
                self.graphs.append((graph, list(given)))
                outputs = run_through_graph(keras.Function, graph, given, self.shadow)
            else:
                outputs = shadow.call(*args, **kwargs)
        finally:
            self._calls.pop()
        return keras.tree.map_structure(self.constant, outputs)

    def _opened(
        self,
        layer: Any,
        arguments: tuple,
        inputs: list[tuple[Any, Any]],
        outputs: Any,
        calls: dict,
        training: dict,
    ) -> Opened:
        """The record of a call: the nodes that lead to its results, in the order they run."""
        results = results_of(outputs)
        if not results:
            raise OpaqueError("it returns no tensor.")
        nodes: list[OpenedNode] = []
        for node in self._nodes_to(results, {id(own) for own, _ in inputs}):
            operation = vars(node.operation).get(_ORIGINAL, node.operation)
            if operation is node.operation and isinstance(operation, keras.layers.Layer):
                # A layer that no attribute leads to, in a closure say, has been called itself.
                inbound_nodes(operation).remove(node)
            if isinstance(operation, keras_numpy.Clip) and _has_open_bounds(operation):
                nodes += _clip(node, layer)
                continue
            read = self._with_variables(self._complete(node))
            new = OpenedNode(operation, read, node.outputs, layer)
            inside = self._inside.get(id(node.outputs[0]))
            new.opened, new.reason = (None, inside) if isinstance(inside, str) else (inside, None)
            nodes.append(new)
        parts = outputs, results, _read(nodes, results), calls, self, training
        return Opened(layer, arguments, inputs, *parts)

    def _with_variables(self, arguments: Any) -> Any:
        """Arguments with variables in place of their tensors, where these meet others.

        What rules know of weights goes by the variable: which axis of a kernel reads channels.
        """
        tensors = {id(x): x for x in arguments.keras_tensors}
        found = {key: variable_of(x) for key, x in tensors.items()}
        variables = {key: v for key, v in found.items() if v is not None}
        if not variables or len(variables) == len(tensors):
            return arguments
        args, kwargs = arguments.convert(lambda x: variables.get(id(x), x))
        return SymbolicArguments(*args, **kwargs)

    def _nodes_to(self, outputs: list[Any], inputs: set[int]) -> Iterator[Any]:
        """The nodes that symbolic tensors come from, those before that they read first."""
        done: set[int] = set()
        stack: list[tuple[Any, bool]] = [(x, False) for x in reversed(outputs)]
        while stack:
            tensor, ready = stack.pop()
            if id(tensor) in inputs:
                continue
            node = node_of(tensor)
            if node is None:
                raise OpaqueError("it reads a tensor from elsewhere.")
            if id(node) in done:
                continue
            if ready:
                done.add(id(node))
                yield node
                continue
            stack.append((tensor, True))
            stack.extend((x, False) for x in reversed(self._read_by(node)))

    def _complete(self, node: Any) -> Any:
        """The arguments of a node, masks among them that Keras has handed on by itself."""
        known = self._arguments.get(id(node.outputs[0]))
        return node.arguments if known is None else SymbolicArguments(*known[0], **known[1])

    def _read_by(self, node: Any) -> list[Any]:
        """The tensors that a node reads, and masks that are on them if it is seen through."""
        inside = self._inside.get(id(node.outputs[0]))
        if isinstance(inside, Opened):
            return [given for _, given in inside.inputs]
        return self._complete(node).keras_tensors


def forget_masks(args: tuple, kwargs: dict) -> None:
    """Takes the masks from what a MultiHeadAttention was called on, as it does by itself."""
    named = [kwargs.get(name) for name in ("query", "value", "key")]
    for tensor in tensors_in([*args[:3], *named]):
        set_keras_mask(tensor, None)


def _fits(layer: Any, args: tuple, kwargs: dict) -> bool:
    """Whether a Sequential model was made for inputs of these shapes; Keras runs it on others."""
    if not isinstance(layer, keras.Sequential):
        return True
    graph = functional_of(layer)
    pairs = zip(graph.inputs, tensors_in((args, kwargs)), strict=False)
    return all(
        len(made.shape) == len(given.shape)
        and all(a in (None, b) for a, b in zip(made.shape[1:], given.shape[1:], strict=True))
        for made, given in pairs
    )


_SHADOW_CLASSES: weakref.WeakKeyDictionary[type, Any] = weakref.WeakKeyDictionary()


def _shadow_class(cls: type) -> type:
    """A class whose calls a recorder sees, and which is the class else."""
    reference = _SHADOW_CLASSES.get(cls)
    found = None if reference is None else reference()
    if found is None:
        found = _new_shadow_class(cls)
        _SHADOW_CLASSES[cls] = weakref.ref(found)
    return found


def _new_shadow_class(cls: Any) -> type:
    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N807
        call = types.MethodType(cls.__call__, self)
        return vars(self)[_RECORDER].called(self, call, args, kwargs)

    def symbolic_call(self: Any, *args: Any, **kwargs: Any) -> Any:
        call = types.MethodType(cls.symbolic_call, self)
        return vars(self)[_RECORDER].symbolic_call(self, call, args, kwargs)

    def run_through_shadows(
        self: Any, inputs: Any, operation_fn: Callable = lambda op: op, call_fn: Any = None
    ) -> Any:
        recorder = vars(self)[_RECORDER]
        recorder.graphs.append((vars(self)[_ORIGINAL], keras.tree.flatten(inputs)))
        shadow = recorder.shadow
        return run_through_graph(cls, self, inputs, lambda op: operation_fn(shadow(op)), call_fn)

    own: dict[str, Any] = {"__module__": cls.__module__, "__doc__": cls.__doc__}
    if issubclass(cls, keras.layers.Layer):
        own |= {"__call__": __call__, "symbolic_call": symbolic_call}
        own["add_loss"] = lambda self, loss: None
    if issubclass(cls, Functional):
        own[RUN_THROUGH_GRAPH] = run_through_shadows
        own["__new__"] = object.__new__
    return type(cls)(cls.__name__, (cls,), own)


def first_line(error: BaseException) -> str:
    """What an error says, without the lines that Keras puts around it for each layer."""
    lines = str(error).replace("\x1b[1m", "").replace("\x1b[0m", "").splitlines()
    stripped = (line.strip() for line in lines)
    own = (
        x for x in stripped if x and not x.startswith(("Exception encountered", "Could not auto"))
    )
    return next(own, type(error).__name__)


def _output_spec(layer: Any, args: tuple, kwargs: dict) -> Any:
    """What a layer returns that cannot be seen through."""
    try:
        return layer.compute_output_spec(*args, **kwargs)
    except TypeError:  # one of its own that takes no `training`, or that of another class's `call`
        known = {k: v for k, v in kwargs.items() if k not in ("training", "mask")}
    try:
        return layer.compute_output_spec(*args, **known)
    except TypeError:
        return keras.Operation.compute_output_spec(layer, *args, **kwargs)


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


def variable_of(tensor: Any) -> keras.Variable | None:
    """Returns the variable that a symbolic tensor stands for, or None.

    That is so after a cast, too, to the type that the variable has anyway.
    """
    maker = maker_of(tensor)
    if not isinstance(maker, _CASTS):
        return getattr(maker, "variable", None)
    (source,) = inbound_nodes(maker)[0].input_tensors
    same = (source.dtype, tuple(source.shape)) == (tensor.dtype, tuple(tensor.shape))
    return variable_of(source) if same else None


_CASTS = (keras_core.Cast, keras_core.ConvertToTensor)


def _read(nodes: list[OpenedNode], results: list[Any]) -> list[OpenedNode]:
    """The nodes, without those of variables that all others read as such, not as tensors."""
    read = {id(x) for x in results}
    kept = []
    for node in reversed(nodes):
        plain = isinstance(node.operation, (Weight, *_CASTS))
        if not plain or any(id(x) in read for x in node.outputs):
            given = () if node.opened is None else node.opened.inputs
            read.update(id(x) for x in node.input_tensors)
            read.update(id(x) for _, x in given)
            kept.append(node)
    return kept[::-1]


def _has_open_bounds(clip: Any) -> bool:
    return any(isinstance(bound, keras.KerasTensor) for bound in (clip.x_min, clip.x_max))


def _clip(node: Any, within: Any) -> Iterator[OpenedNode]:
    """A clip by variables in two steps: Keras has bounds as attributes, which name no tensors."""
    value, result = node.input_tensors[0], node.outputs[0]
    clip = node.operation
    between = keras.KerasTensor(result.shape, dtype=result.dtype)
    steps = (
        (keras_numpy.Maximum(), clip.x_min, between),
        (keras_numpy.Minimum(), clip.x_max, result),
    )
    for operation, bound, output in steps:
        number = bound
        if isinstance(bound, keras.KerasTensor):
            number = variable_of(bound) if bound.dtype == value.dtype else None
        if number is None:
            raise OpaqueError("it clips by what it computes, or by a variable of another type.")
        yield OpenedNode(operation, SymbolicArguments(value, number), [output], within)
        value = output


def _needs_no_build(layer: Any) -> bool:
    """Whether a layer has nothing to make before it is called; that of a merge checks shapes."""
    return type(layer).build in (keras.layers.Layer.build, *_CHECKS)


_CHECKS = (Merge.build, keras.layers.Concatenate.build, keras.layers.Dot.build)
