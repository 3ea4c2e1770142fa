"""What a layer reads and makes, and the gradient of the log-likelihood behind it.

A tapped layer tells of each of its calls, wherever in the graph it is called and however often. To
what it makes, ahead of its activation, a zero is added; the gradient with respect to that zero is
the gradient with respect to the layer's output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from ptkeras.fisher.gradients import gradients_at
from ptkeras.fisher.likelihood import Likelihood, likelihoods
from ptkeras.utils.arguments import check_count
from ptkeras.utils.progress import track


class Tap(NamedTuple):
    """One call of a layer on one mini-batch, as float32 arrays.

    Attributes:
        layer: the layer.
        inputs: what it read.
        outputs: what it made, ahead of its activation.
        gradients: for each example the gradient of `-log p(target)` with respect to `outputs`.
        examples: the number of examples in the mini-batch.
    """

    layer: keras.layers.Layer
    inputs: np.ndarray
    outputs: np.ndarray
    gradients: np.ndarray
    examples: int


def taps(
    model: keras.Model,
    layers: Sequence[Any],
    x: Any,
    *,
    loss: Any = None,
    batch_size: int = 32,
    seed: Any = 0,
) -> Iterator[list[Tap]]:
    """Runs a model, at inference, forward and backward from targets that it draws itself.

    Args:
        model: the model.
        layers: convolutions and dense layers of it: layers with an `activation` that is the last
            thing they do.
        x: examples, as the model takes them: an array, or a list or dict of arrays.
        loss: what the outputs predict, see `ptkeras.fisher.likelihood.likelihoods`.
        batch_size: the number of examples in a mini-batch.
        seed: of `np.random.default_rng`, which the targets are drawn with.

    Yields:
        For each mini-batch the calls of the layers.

    Raises:
        ValueError: the batch size is under 1, there are no examples, or the gradient is not finite.
    """
    batch_size = check_count("batch_size", batch_size)
    size = number_of_examples(x)
    of_outputs = likelihoods(model, loss)
    generator = np.random.default_rng(seed)
    shapes: dict[int, _Shapes] = {}
    for start in track(range(0, size, batch_size), "Fisher information"):
        part = keras.tree.map_structure(lambda v, at=start: v[at : at + batch_size], x)
        count = min(batch_size, size - start)
        with _Listening(layers) as listening:
            if count not in shapes:
                shapes[count] = _probe(model, part, listening)
            found = _batch(model, part, of_outputs, shapes[count], generator, listening)
        if not all(np.isfinite(gradients).all() for *_, gradients in found):
            raise ValueError(
                f"The gradient of '{model.name}' on the examples that were given is not finite: "
                "check x, the loss and the weights."
            )
        yield [Tap(*each, count) for each in found]


def number_of_examples(x: Any) -> int:
    """How many examples there are in an array, or a list or dict of arrays.

    Raises:
        ValueError: there are none, or not as many in each array.
    """
    sizes = {len(v) if np.ndim(v) else 0 for v in keras.tree.flatten(x)}
    if len(sizes) != 1 or not min(sizes):
        raise ValueError(
            "x must be an array of examples, or a list or dict of arrays of as many examples each; "
            f"received arrays of {sorted(sizes)} examples."
        )
    return sizes.pop()


class _Shapes(NamedTuple):
    calls: list[tuple[int, ...]]
    outputs: list[tuple[int, ...]]


def _probe(model: keras.Model, x: Any, listening: _Listening) -> _Shapes:
    outputs = keras.tree.flatten(model(x, training=False))
    calls = [tuple(made.shape) for _, _, made in listening.end()]
    return _Shapes(calls, [tuple(y.shape) for y in outputs])


def _batch(
    model: keras.Model,
    x: Any,
    of_outputs: list[Likelihood | None],
    shapes: _Shapes,
    generator: np.random.Generator,
    listening: _Listening,
) -> list[tuple[Any, np.ndarray, np.ndarray, np.ndarray]]:
    noise = [
        None if one is None else ops.convert_to_tensor(one.noise(generator, shape))
        for one, shape in zip(of_outputs, shapes.outputs, strict=True)
    ]

    def surprise(shifts: list[Any]) -> tuple[Any, Any]:
        listening.begin(shifts)
        with keras.StatelessScope():
            outputs = keras.tree.flatten(model(x, training=False))
            total = sum(
                one.surprise(ops.cast(y, "float32"), drawn)
                for one, y, drawn in zip(of_outputs, outputs, noise, strict=True)
                if one is not None
            )
        calls = listening.end()
        layers[:] = [layer for layer, _, _ in calls]
        return total, [(ops.cast(a, "float32"), ops.cast(s, "float32")) for _, a, s in calls]

    layers: list[Any] = []
    zeros = [ops.zeros(shape, "float32") for shape in shapes.calls]
    gradients, seen = gradients_at(surprise, zeros)
    return [
        (layer, inputs, outputs, slopes)
        for layer, (inputs, outputs), slopes in zip(layers, seen, gradients, strict=True)
    ]


class _Listening:
    """Context in which layers tell of their calls.

    `call` and `activation` are overlaid in the layer's own `vars`, past the tracking of Keras and
    of its backends, which have an eye on what is set.
    """

    def __init__(self, layers: Sequence[Any]) -> None:
        self.layers = layers
        self._calls: list[tuple[Any, Any, Any]] = []
        self._shifts: Iterator[Any] | None = None
        self._inputs: dict[int, Any] = {}

    def __enter__(self) -> _Listening:
        self._before = []
        for layer in self.layers:
            own = vars(layer)
            kept = {name: own[name] for name in ("call", "activation") if name in own}
            self._before.append((own, kept))
            own.update(call=self._called(layer), activation=self._activated(layer))
        return self

    def __exit__(self, *_: object) -> None:
        for own, kept in self._before:
            del own["call"], own["activation"]
            own.update(kept)

    def begin(self, shifts: list[Any]) -> None:
        """Begins a pass in which each call's output is shifted by one of these."""
        self._shifts = iter(shifts)

    def end(self) -> list[tuple[Any, Any, Any]]:
        """The calls of the pass: the layer, what it read, and what it made."""
        calls, self._calls, self._shifts = self._calls, [], None
        return calls

    def _called(self, layer: keras.layers.Layer) -> Callable:
        call = layer.call

        def called(inputs: Any, *args: Any, **kwargs: Any) -> Any:
            self._inputs[id(layer)] = inputs
            return call(inputs, *args, **kwargs)

        return called

    def _activated(self, layer: keras.layers.Layer) -> Callable:
        activation = layer.activation

        def activated(outputs: Any) -> Any:
            self._calls.append((layer, self._inputs.pop(id(layer)), outputs))
            if self._shifts is not None:
                outputs = outputs + ops.cast(next(self._shifts), outputs.dtype)
            return outputs if activation is None else activation(outputs)

        return activated
