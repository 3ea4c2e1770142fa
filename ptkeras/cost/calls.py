"""Every call in a model's graph, with its shapes: what `ptkeras.cost` counts. Nothing runs."""

import inspect
import math
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import keras

from ptkeras.channels.einsum import spell
from ptkeras.channels.functional import has_composites
from ptkeras.channels.graph import functional_of, given_to, is_graph
from ptkeras.channels.inputs import symbolic_inputs
from ptkeras.channels.layer_names import paths
from ptkeras.channels.leaves import is_leaf
from ptkeras.channels.opening import Constant, OpaqueError, Opened, Weight, open_call
from ptkeras.cost.mac_rules import has_own_rule
from ptkeras.keras_compat.calls import takes_training
from ptkeras.keras_compat.graph import graph_of, nodes_in_order
from ptkeras.utils.models import check_model

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False, slots=True)
class Call:
    """One call of a layer, or of a plain `keras.ops` operation, in the graph of a model.

    Shapes are whole, batch axis included; a batch size that is not fixed is 1.

    Attributes:
        name: The layer's name, after the names of the nested models and wrappers that it is in.
        operation: The layer or operation.
        args: Positional arguments of the call, with a `KerasTensor` for each tensor.
        kwargs: Keyword arguments of the call, likewise.
        output_tensors: Its results, a `KerasTensor` each.
    """

    name: str
    operation: keras.Operation
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output_tensors: list[keras.KerasTensor]

    @property
    def input_tensors(self) -> list[keras.KerasTensor]:
        """The symbolic tensors among the arguments, in order."""
        return _tensors((self.args, self.kwargs))

    @property
    def inputs(self) -> list[Shape]:
        """Shapes of the arguments that have one: tensors, variables and arrays, in order."""
        flat = keras.tree.flatten((self.args, self.kwargs))
        return [sizes(x) for x in flat if hasattr(x, "shape")]

    @property
    def weights(self) -> list[keras.Variable]:
        """The weights of the layer, or the variables that an operation reads."""
        flat = keras.tree.flatten((self.args, self.kwargs))
        if isinstance(self.operation, Weight):
            return [self.operation.variable]
        own = getattr(self.operation, "weights", [])
        return [*own, *(x for x in flat if isinstance(x, keras.Variable))]

    @property
    def outputs(self) -> list[Shape]:
        """Shapes of the results."""
        return [sizes(x) for x in self.output_tensors]

    def argument(self, name: str) -> Any:
        """The argument that the operation's `call` method names so; None where it was left out."""
        bound = inspect.signature(self.operation.call).bind_partial(*self.args, **self.kwargs)
        return bound.arguments.get(name)


def sizes(tensor: Any) -> Shape:
    """The shape of a tensor as plain integers, with 1 for a batch size that is not fixed."""
    shape = tuple(tensor.shape)
    return (1, *shape[1:]) if shape and shape[0] is None else shape


def calls(model: keras.Model, input_shape: Any = None) -> tuple[list[Call], int]:
    """Lists every call in a model, in order; nested models, wrappers, layers of layers opened up.

    The operations are the model's own objects. A layer that cannot be seen through is one call.

    Args:
        model: A built model of any kind; it is not changed.
        input_shape: Shape of one example, without the batch axis, to put in place of the model's
            own; a list of shapes, in the order of `model.inputs`, for a model of several inputs.

    Returns:
        The calls, and the batch size that their shapes are for (1 unless the model fixes it).

    Raises:
        ValueError: If the model is not built or its code cannot be seen through, if sizes are
            unknown, or if a layer does not take `input_shape`.
    """
    if isinstance(model, keras.Function) and not isinstance(model, keras.Model):
        graph = model
    else:
        check_model(model)
        if not is_graph(model) and not isinstance(model, keras.Sequential):
            return _calls_of_code(model, input_shape), 1
        graph = functional_of(model)
    shapes = _input_shapes(model, graph, input_shape)
    one = [(shape[0] or 1, *shape[1:]) for shape in shapes]
    if is_graph(model) and has_composites(model):
        shapes = one  # the code of a layer may compute with the batch size
    found = _calls_of_graph(model, graph, shapes)
    if shapes != one and any(map(_mixes_batch, found)):
        # Shapes say what one example costs only while axis 0 is the batch, alone. Here it was
        # folded into another axis (windowed attention does so), so it gets a size to be traced by.
        shapes = one
        found = _calls_of_graph(model, graph, shapes)
    _check_known(model, found)
    return found, shapes[0][0] or 1


def _calls_of_graph(model: Any, graph: keras.Function, shapes: list[tuple]) -> list[Call]:
    walker = _Walker(model)
    walker.graph(graph, _symbolic(graph, shapes), "")
    return walker.found


def _calls_of_code(model: keras.Model, input_shape: Any) -> list[Call]:
    """The calls of a model whose `call` is Python code."""
    args, kwargs = symbolic_inputs(model, input_shape)
    for x in _tensors((args, kwargs)):
        if None in x.shape[1:]:
            raise _open_sizes(model, tuple(x.shape))
    walker = _Walker(model)
    try:
        opened = walker.opened(model, args, kwargs)
    except OpaqueError as error:
        raise ValueError(
            f"'{model.name}' (a {type(model).__name__}) cannot be seen through: {error} Build it "
            "with the functional API, keras.Model(inputs, outputs)."
        ) from error
    # Of a batch of one, as the caller's may be open.
    walker.code(opened, {id(given): own for own, given in opened.inputs}, "")
    _check_known(model, walker.found)
    return walker.found


def _check_known(model: keras.Model, found: list[Call]) -> None:
    for call in found:
        if any(None in shape for shape in call.outputs):
            raise ValueError(
                f"The output shape of '{call.name}' in model '{model.name}' is not known: "
                f"{call.output_tensors[0].shape}; fix the sizes with input_shape=."
            )


def _open_sizes(model: keras.Model, shape: tuple) -> ValueError:
    return ValueError(
        f"Model '{model.name}' leaves sizes of its input open, {shape}, and its cost depends on "
        "them: pass input_shape=, the shape of one example."
    )


def _input_shapes(model: keras.Model, graph: keras.Function, given: Any) -> list[tuple]:
    own = [tuple(x.shape) for x in graph.inputs]
    if given is None:
        if any(None in shape[1:] for shape in own):
            raise _open_sizes(model, own[0])
        return own
    given = (given,) if isinstance(given, int) else given
    several = any(isinstance(shape, list | tuple) for shape in given)
    shapes = [tuple(shape) for shape in (given if several else [given])]
    if [len(shape) + 1 for shape in shapes] != [len(shape) for shape in own] or any(
        not isinstance(size, int) or size < 1 for shape in shapes for size in shape
    ):
        raise ValueError(
            f"input_shape must give positive sizes, without the batch axis, for the inputs of "
            f"model '{model.name}', which are {own}; received {given}."
        )
    return [(old[0], *new) for old, new in zip(own, shapes, strict=True)]


def _symbolic(graph: keras.Function, shapes: list[tuple]) -> list[keras.KerasTensor]:
    return [
        keras.KerasTensor(shape, dtype=x.dtype, name=x.name)
        for shape, x in zip(shapes, graph.inputs, strict=True)
    ]


class _Walker:
    """Collects the calls of a model.

    Args:
        model: The model.

    Attributes:
        found: The calls so far.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.found: list[Call] = []
        self._paths: dict[int, str] | None = None
        self._opened: list[Opened] = []  # what goes by its `id` has to live

    def graph(
        self, graph: keras.Function, inputs: list[keras.KerasTensor], path: str
    ) -> list[keras.KerasTensor]:
        """Adds the calls of a graph on `inputs`; returns the graph's outputs."""
        values = {id(ref): x for ref, x in zip(graph.inputs, inputs, strict=True)}
        for node in nodes_in_order(graph):
            refs = node.input_tensors
            if node.is_input or any(id(x) not in values for x in refs):
                continue
            self.node(path + node.operation.name, node, values)
        return [values[id(x)] for x in graph.outputs]

    def node(self, name: str, node: Any, values: dict[int, Any]) -> None:
        """Adds the calls of one node; `values` has what its tensors are."""
        for x in node.input_tensors:
            values.setdefault(id(x), x)  # a mask, which no call makes
        same = all(values[id(x)].shape == x.shape for x in node.input_tensors)
        args, kwargs = node.arguments.fill_in(values)
        outputs = self.visit(name, node.operation, args, kwargs, node.outputs if same else None)
        values.update((id(ref), x) for ref, x in zip(node.outputs, outputs, strict=True))

    def code(self, opened: Opened, values: dict[int, Any], path: str) -> list[keras.KerasTensor]:
        """Adds the calls inside of a layer's code; returns its outputs.

        `values` has what its tensors are; what it is called on is itself, if it is not there.
        """
        values.update((id(own), values.get(id(given), given)) for own, given in opened.inputs)
        read = {id(x) for node in opened.nodes for x in node.input_tensors}
        names: Counter[str] = Counter()
        for node in opened.nodes:
            operation = node.operation
            if isinstance(operation, (Constant, Weight)):
                (tensor,) = node.outputs
                values[id(tensor)] = tensor
                if isinstance(operation, Weight) and id(tensor) in read:
                    name = path + operation.variable.name
                    self.found.append(Call(name, operation, (), {}, [tensor]))
                continue
            name = self.name_in(path, operation, names)
            if node.opened is None or _is_leaf(operation):
                self.node(name, node, values)
            else:
                self.code(node.opened, values, f"{name}/")
                inside = zip(node.outputs, node.opened.results, strict=False)
                values.update((id(x), values[id(result)]) for x, result in inside)
        return [values[id(x)] for x in _tensors(opened.outputs)]

    def name_in(self, path: str, operation: Any, names: Counter[str]) -> str:
        """The name of what a layer's code calls: a layer's own, or the kind of an operation."""
        if isinstance(operation, keras.layers.Layer):
            if self._paths is None:
                self._paths = paths(self.model)
            return self._paths.get(id(operation), path + operation.name)
        kind = re.sub(r"(?<!^)(?=[A-Z])", "_", type(operation).__name__).lower()
        names[kind] += 1
        return path + (kind if names[kind] == 1 else f"{kind}_{names[kind] - 1}")

    def opened(self, layer: Any, args: tuple, kwargs: dict) -> Opened:
        """What a layer calls at inference."""
        if takes_training(layer):
            kwargs = kwargs | {"training": False}
        opened = open_call(layer, args, kwargs, lambda x: x is not layer and _is_leaf(x), batch=1)
        self._opened.append(opened)
        return opened

    def visit(
        self,
        name: str,
        operation: keras.Operation,
        args: tuple,
        kwargs: dict,
        outputs: list[keras.KerasTensor] | None,
    ) -> list[keras.KerasTensor]:
        """Adds one operation's calls; `outputs` are its results where their shapes are known."""
        if is_graph(operation) or isinstance(operation, keras.Function):
            graph = graph_of(operation)
            return self.graph(graph, _inputs_of(graph, args, kwargs), f"{name}/")
        if isinstance(operation, keras.layers.Layer) and not _is_leaf(operation):
            inner = self.composite(name, operation, args, kwargs)
            if inner is not None:
                return inner
        if outputs is None:
            outputs = _infer(name, operation, args, kwargs)
        if isinstance(operation, keras.layers.EinsumDense):
            outputs = [_einsum_output(operation, _tensors((args, kwargs))[0], outputs[0])]
        # Every call has tensors of its own: a shared model yields the same ones at each call.
        outputs = [keras.KerasTensor(x.shape, dtype=x.dtype, name=name) for x in outputs]
        inner = _wrapped(operation, args, kwargs)
        if inner:
            results = [
                self.visit(f"{name}/{layer.name}", layer, (x,), {}, None)[0] for layer, x in inner
            ]
            args, kwargs = tuple(results), {}  # what is left of a wrapper: to hand on or join these
        self.found.append(Call(name, operation, tuple(args), kwargs, outputs))
        return outputs

    def composite(
        self, name: str, layer: Any, args: tuple, kwargs: dict
    ) -> list[keras.KerasTensor] | None:
        """Adds what a layer is made of; returns its outputs, None if it cannot be seen through."""
        try:
            opened = self.opened(layer, args, kwargs)
        except OpaqueError:
            return None
        return self.code(opened, {}, f"{name}/")


def _is_leaf(layer: Any) -> bool:
    return is_leaf(layer) or has_own_rule(layer)


def _inputs_of(graph: keras.Function, args: tuple, kwargs: dict) -> list[keras.KerasTensor]:
    """What a nested model is called on, in the order of its inputs."""
    given = given_to(graph, args, kwargs)
    return [
        own
        if x is None
        else keras.KerasTensor(x.shape, dtype=keras.backend.standardize_dtype(x.dtype))
        for own, x in zip(graph.inputs, given, strict=True)
    ]


def _wrapped(
    operation: keras.Operation, args: tuple, kwargs: dict
) -> list[tuple[keras.layers.Layer, keras.KerasTensor]]:
    """The layers that a wrapper calls, each with what it calls it on."""
    if isinstance(operation, keras.layers.Bidirectional):
        x = _tensors((args, kwargs))[0]
        return [(operation.forward_layer, x), (operation.backward_layer, x)]
    if not isinstance(operation, keras.layers.Wrapper):
        return []
    x = _tensors((args, kwargs))[0]
    if isinstance(operation, keras.layers.TimeDistributed):
        batch, steps, *rest = sizes(x)
        x = keras.KerasTensor((batch * steps, *rest), dtype=x.dtype, name=x.name)
    return [(operation.layer, x)]


def _infer(
    name: str, operation: keras.Operation, args: tuple, kwargs: dict
) -> list[keras.KerasTensor]:
    """Output shapes of an operation on inputs of other sizes than it was built with."""
    tensors = _tensors((args, kwargs))
    shapes = [x.shape for x in tensors]
    specs = keras.tree.flatten(getattr(operation, "input_spec", None) or [])
    for spec, shape in zip(specs, shapes, strict=False):
        for axis, size in (getattr(spec, "axes", None) or {}).items():
            if shape[axis] not in (size, None):
                raise ValueError(
                    f"'{name}' was built for {size} on axis {axis} of its input and cannot take "
                    f"the shape {shape} that input_shape leads to."
                )
    try:
        outputs = keras.tree.flatten(operation.compute_output_spec(*args, **kwargs))
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise ValueError(f"'{name}' cannot take inputs of shape {shapes}: {reason}") from error
    if any(size is not None and size < 1 for x in outputs for size in x.shape):
        raise ValueError(f"'{name}' cannot take inputs of shape {shapes}: nothing is left of them.")
    return outputs


def _einsum_output(
    layer: keras.layers.EinsumDense, x: keras.KerasTensor, y: keras.KerasTensor
) -> keras.KerasTensor:
    """The output with the sizes of its input: Keras leaves open what the layer was not told."""
    (first, _), last = spell(layer.equation, [len(x.shape), len(layer.kernel.shape)])
    known, labels = dict(zip(first, x.shape, strict=True)), zip(last, y.shape, strict=True)
    return keras.KerasTensor([known.get(label, size) for label, size in labels], dtype=y.dtype)


def _tensors(arguments: Any) -> list[keras.KerasTensor]:
    return [x for x in keras.tree.flatten(arguments) if isinstance(x, keras.KerasTensor)]


def _mixes_batch(call: Call) -> bool:
    """Whether an operation moves the open batch size off axis 0 or folds other axes into it."""
    if any(None in shape for shape in call.outputs):
        return True
    if isinstance(call.operation, keras.layers.Layer):
        return False
    if getattr(call.operation, "axis", None) == 0:
        return True
    moved = type(call.operation).__name__ == "Reshape"
    return moved and math.prod(call.inputs[0]) != math.prod(call.outputs[0])
