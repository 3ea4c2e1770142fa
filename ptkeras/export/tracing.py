"""A model as a TensorFlow function, and what it remembers from call to call."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

import keras

from ptkeras.export.artifact import ExportError
from ptkeras.export.served import Served
from ptkeras.keras_compat.tracking import flatten_layers


class Trace(NamedTuple):
    """A model as a `tf.function`.

    Attributes:
        function: the function, with its input signature; it changes no variable.
        concrete: what was traced of it.
        remembered: the variables that the model writes and that its answers depend on. An answer
            then depends on the calls before it: by a seed, or by a state that the model keeps.
    """

    function: Any
    concrete: Any
    remembered: list[keras.Variable]


def trace(served: Served) -> Trace:
    """Traces a model.

    Keras draws the dropout masks of recurrent layers at inference too, where nothing reads them,
    and writes the state of their seed generator. Such writes are left out of the function.
    """
    scopes: list[_Writes] = []

    def scope() -> _Writes:
        scopes.append(_Writes())
        return scopes[-1]

    function = _function(served, scope)
    concrete = function.get_concrete_function()
    written = {id(x): x for writes in scopes for x in writes.written}
    read = _read_variables(concrete)
    remembered = [x for x in written.values() if not read.isdisjoint(_handles(x))]
    return Trace(function, concrete, remembered)


def function_with_writes(served: Served) -> Any:
    """The `tf.function` of a model that keeps a state from one call to the next."""
    return _function(served, contextlib.nullcontext)


def _function(served: Served, scope: Callable[[], Any]) -> Any:
    import tensorflow as tf

    signature = [tf.TensorSpec(port.shape, port.dtype, port.name) for port in served.inputs]

    def serve(*tensors: Any) -> dict[str, Any]:
        with scope():
            answers = served(*tensors)
        # Under the identity each output is a tensor of its own, even where it is an input too.
        return {name: tf.identity(value) for name, value in answers.items()}

    return tf.function(serve, input_signature=signature, autograph=False)


def check_memory(
    model: keras.Model,
    remembered: list[keras.Variable],
    *,
    state: bool = True,
    seeds: bool = True,
) -> None:
    """Refuses models whose answers depend on the calls before.

    Args:
        model: the Keras model.
        remembered: what `trace` has found.
        state: whether to refuse one that keeps a state.
        seeds: whether to refuse one that draws random numbers.

    Raises:
        ExportError: If the model is one of those.
    """
    drawn = [x for x in remembered if x.name == "seed_generator_state"]
    kept = [x for x in remembered if x.name != "seed_generator_state"]
    if drawn and seeds:
        raise ExportError(
            f"'{model.name}' draws random numbers at inference{_owners(model, drawn)}, so that no "
            "two answers can be compared: make them an input of the model."
        )
    if kept and state:
        raise ExportError(
            f"'{model.name}' keeps a state from one call to the next{_owners(model, kept)}, which "
            "only a SavedModel can: build it with stateful=False, or make the state an input and "
            "an output of the model."
        )


def _owners(model: keras.Model, variables: list[keras.Variable]) -> str:
    """Names the innermost layers that hold these variables, in parentheses."""
    names = []
    for variable in variables:
        holders = [layer for layer in flatten_layers(model) if _holds(layer, variable)]
        names += [f"'{layer.name}'" for layer in holders[-1:]]
    return f" ({', '.join(dict.fromkeys(names))})" if names else ""


def _holds(layer: keras.Layer, variable: keras.Variable) -> bool:
    # Keras lists the states of a stateful recurrent layer nowhere else.
    states = keras.tree.flatten(getattr(layer, "states", None) or [])
    return any(x is variable for x in [*layer.variables, *states])


class _Writes(keras.StatelessScope):
    """Keeps what is written from the variables, and lists the variables that were written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[keras.Variable] = []

    def add_update(self, update: tuple[keras.Variable, Any]) -> None:
        self.written.append(update[0])
        super().add_update(update)


def _read_variables(concrete: Any) -> set[int]:
    """The handles, by `id`, of the variables that the outputs of a function are computed from."""
    waiting = [tensor.op for tensor in concrete.outputs]
    reached = set(waiting)
    while waiting:
        new = {tensor.op for tensor in waiting.pop().inputs} - reached
        reached |= new
        waiting.extend(new)
    captures = concrete.graph.captures
    return {id(outside) for outside, inside in captures if inside.op in reached}


def _handles(variable: keras.Variable) -> set[int]:
    """The handles, by `id`, of a variable; it has one on each device of a mirrored strategy."""
    value = variable.value
    return {id(x.handle) for x in getattr(value, "values", (value,))}
