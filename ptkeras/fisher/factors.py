"""The Fisher information of single layers, as K-FAC factors it, and measured in its eigenbasis."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from ptkeras.channels import trace
from ptkeras.channels.graph import is_graph
from ptkeras.channels.leaves import is_changed
from ptkeras.fisher.basis import Basis, Moment
from ptkeras.fisher.patches import channels_last, patches, uses
from ptkeras.fisher.taps import Tap, number_of_examples, taps
from ptkeras.keras_compat.tracking import flatten_layers

_KINDS = (
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.Dense,
)
# Numbers that may lie in memory for the gradients of single examples.
_ROOM = 2**24


@dataclasses.dataclass(frozen=True, eq=False)
class Factors:
    """The Kronecker factors of the Fisher information of one layer's kernel.

    Attributes:
        layer: the layer.
        inputs: the `Moment` A = E[a aᵀ]; `inputs.matrix()` is the matrix.
        gradients: the `Moment` S = E[Σ g gᵀ], the sum over positions.
        positions: how many positions an example has in what the layer reads, and in what it makes,
            over all of its calls.
    """

    layer: keras.layers.Layer
    inputs: Moment
    gradients: Moment
    positions: tuple[float, float]


def layers(model: keras.Model) -> list[Any]:
    """The layers whose Fisher information is factored, in the order of the graph.

    Convolutions of one to three dimensions and dense layers, in nested models and in layers of
    layers too. Left out are grouped, depthwise, separable and transposed ones, those inside
    wrappers, attention and recurrent layers and layers that cannot be seen through, subclasses
    (whose `call` may do anything), and those whose weights LoRA or quantisation stands in for.

    Args:
        model: a built model of any kind.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of layers without a rule, which does not matter here
        graph = trace(model).graph
    found: dict[int, Any] = {}
    inside: set[int] = set()
    opened = {id(each.layer) for each in graph.seen_through}
    for node in graph.nodes:
        op = node.operation
        closed = id(op) not in opened and not is_graph(op)
        if isinstance(op, keras.layers.Layer) and closed:
            inside |= {id(layer) for layer in flatten_layers(op, include_self=False)}
        if type(op) in _KINDS and getattr(op, "groups", 1) == 1 and not is_changed(op):
            found.setdefault(id(op), op)
    return [layer for key, layer in found.items() if key not in inside]


def factors(
    model: keras.Model,
    x: Any,
    *,
    of: Sequence[Any] | None = None,
    loss: Any = None,
    batch_size: int = 32,
    seed: Any = 0,
) -> list[Factors]:
    """The Kronecker factors of the Fisher information of convolutions and dense layers.

        F ≈ A ⊗ S,    A = E[a aᵀ],    S = E[Σ g gᵀ]

    with a what the weights at one place of the kernel read, averaged over examples, positions and
    the places of the kernel (zeros of the padding included), and g the gradient of `-log p(y)` with
    respect to the layer's output, ahead of its activation, summed over positions (Martens & Grosse
    2015; for convolutions Grosse & Martens 2016). The targets y are drawn from the model's own
    predictive distribution, as the Fisher information has it, so that none are asked for.

    The places of a kernel are taken to be independent and to have one A in common, of channels by
    channels, as in the code of EigenDamage's authors (`use_patch`): the basis that it leads to is
    one that a 1x1 convolution rotates into. That also bounds the memory. A dense layer that reads
    more than 2,048 numbers has a block diagonal A, of blocks of at most so many. A layer that is
    called more than once has the positions of all calls together. Biases are left out.

    ```python
    for each in ptkeras.fisher.factors(model, x[:2000]):
        print(each.layer.name, each.inputs.matrix().shape, each.gradients.matrix().shape)
    ```

    Args:
        model: a built model of any kind.
        x: examples, as the model takes them: an array, or a list or dict of arrays.
        of: the layers; None for `ptkeras.fisher.layers(model)`.
        loss: what the outputs predict: the categorical or binary crossentropy, or the mean squared
            error (a normal distribution of unit variance), as `compile` takes them. None takes the
            loss that the model is compiled with.
        batch_size: the number of examples in a mini-batch, of which all that the layers read and
            make is in memory at a time.
        seed: of the generator that targets are drawn with.

    Returns:
        The factors of each layer that is called, in float64.

    Raises:
        ValueError: the loss is no likelihood that is known, the gradient is not finite, or there
            are no examples.
    """
    of = layers(model) if of is None else of
    size = number_of_examples(x)
    found: dict[int, Factors] = {}
    seen: dict[int, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for tap in _each(taps(model, of, x, loss=loss, batch_size=batch_size, seed=seed)):
        key = id(tap.layer)
        if key not in found:
            *_, inputs, outputs = tap.layer.kernel.shape
            found[key] = Factors(tap.layer, Moment(inputs), Moment(outputs), (0.0, 0.0))
        read, slopes = _rows(tap.inputs), _rows(tap.gradients)
        seen[key][0] += len(read) / size
        seen[key][1] += len(slopes) / size
        # Each place of the kernel reads the same positions, some of them at the border less often.
        weights = np.sqrt(uses(tap.layer, tap.inputs.shape[1:-1]))[..., None]
        found[key].inputs.add(_rows(tap.inputs * weights), 1.0)
        found[key].gradients.add(slopes, 1 / size)
    return [_finished(each, seen[id(each.layer)], size) for each in found.values()]


def second_moments(
    model: keras.Model,
    x: Any,
    bases: dict[int, tuple[Basis, Basis]],
    *,
    of: Sequence[Any],
    loss: Any = None,
    batch_size: int = 32,
    seed: Any = 0,
) -> dict[int, np.ndarray]:
    """The second moments of a kernel's gradient, coordinate by coordinate of an eigenbasis.

        Λ[k] = E[(Q_Aᵀ · ∂(-log p(y))/∂W[k] · Q_S)²],  element by element

    for each place k of the kernel: the diagonal of the Fisher information in the Kronecker-factored
    eigenbasis, which Λ = λ_A λ_Sᵀ is an estimate of (EKFAC, George et al. 2018).

    Args:
        model: a built model of any kind.
        x: examples, as in `factors`.
        bases: for the `id` of each layer the bases of what it reads and of what it makes.
        of: the layers.
        loss: as in `factors`.
        batch_size: as in `factors`.
        seed: as in `factors`.

    Returns:
        For the `id` of each layer an array of shape `(places of the kernel, inputs, outputs)`.
    """
    size = number_of_examples(x)
    result: dict[int, np.ndarray] = {}
    for batch in taps(model, of, x, loss=loss, batch_size=batch_size, seed=seed):
        calls: dict[int, list[Tap]] = defaultdict(list)
        for tap in batch:
            calls[id(tap.layer)].append(_last(tap))
        for key, own in calls.items():
            reads, makes = bases[key]
            slopes = _by_example([makes.rotate(tap.gradients) for tap in own], own[0].examples)
            rotated = [patches(tap.layer, reads.rotate(tap.inputs)) for tap in own]
            total = result.setdefault(key, np.zeros(_places_first(own[0].layer.kernel.shape)))
            for place, parts in enumerate(zip(*rotated, strict=True)):
                read = _by_example(list(parts), own[0].examples)
                total[place] += _squares(read, slopes) / size
    return result


def _each(batches: Iterator[list[Tap]]) -> Iterator[Tap]:
    for batch in batches:
        for tap in batch:
            yield _last(tap)


def _last(tap: Tap) -> Tap:
    inputs, outputs, gradients = (channels_last(tap.layer, v) for v in tap[1:4])
    return Tap(tap.layer, inputs, outputs, gradients, tap.examples)


def _rows(values: np.ndarray) -> np.ndarray:
    return values.reshape(-1, values.shape[-1])


def _places_first(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """The shape of a kernel with its spatial axes as one."""
    *places, read, made = shape
    return math.prod(places), read, made


def _finished(found: Factors, seen: list[float], size: int) -> Factors:
    """The factors with sums over positions and places made means."""
    places = _places_first(found.layer.kernel.shape)[0]
    for block in found.inputs.blocks:
        block /= seen[1] * size * places
    return dataclasses.replace(found, positions=(seen[0], seen[1]))


def _by_example(parts: list[np.ndarray], examples: int) -> np.ndarray:
    """Arrays with channels along the last axis as one, of examples, positions and channels.

    A model may have put positions of an example, such as windows, into the axis of the batch.
    """
    rows = [part.reshape(examples, -1, part.shape[-1]) for part in parts]
    return rows[0] if len(rows) == 1 else np.concatenate(rows, 1)


def _squares(read: np.ndarray, slopes: np.ndarray) -> np.ndarray:
    """Σ over examples of (Σ over positions of a gᵀ)², element by element."""
    if read.shape[1] == 1:
        return np.square(read[:, 0]).T @ np.square(slopes[:, 0])
    step = max(1, _ROOM // (read.shape[-1] * slopes.shape[-1]))
    total = np.zeros((read.shape[-1], slopes.shape[-1]))
    for start in range(0, len(read), step):
        part = slice(start, start + step)
        total += np.square(np.matmul(read[part].transpose(0, 2, 1), slopes[part])).sum(0)
    return total
