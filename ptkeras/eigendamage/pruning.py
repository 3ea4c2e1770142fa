"""Pruning in the Kronecker-factored eigenbasis (Wang et al., ICML 2019)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import keras
import numpy as np

from ptkeras import fisher
from ptkeras.channels.layer_names import paths
from ptkeras.eigendamage.bottleneck import Form, cheapest, directions, form_of, pruned, stages
from ptkeras.eigendamage.chains import Chain, chains
from ptkeras.eigendamage.report import EigenDamageReport, LayerChange
from ptkeras.fisher.basis import Basis
from ptkeras.keras_compat.tracking import flatten_layers
from ptkeras.prunetrain import lasso
from ptkeras.surgery.replace import Stage, replace
from ptkeras.surgery.variables import check_resizable
from ptkeras.utils.arguments import check_number
from ptkeras.utils.names import did_you_mean


def prune(
    model: keras.Model,
    x: Any,
    ratio: float,
    *,
    ratio_limit: float = 0.97,
    loss: Any = None,
    leave_alone: Iterable[str] = (),
    batch_size: int = 32,
    seed: int = 0,
) -> EigenDamageReport:
    """Removes the least important directions of all layers' weights, in place.

    ```python
    print(ptkeras.eigendamage.prune(model, x[:2000], 0.5))  # one pass
    model.fit(x, y, epochs=30)

    for ratio in (0.5, 0.5, 0.4):  # iteratively
        ptkeras.eigendamage.prune(model, x[:2000], ratio, ratio_limit=0.5)
        model.fit(x, y, epochs=30)
    ```

    After EigenDamage (arXiv 1905.05934), section 4. In the eigenbasis of the Kronecker factors of
    the Fisher information (see `ptkeras.fisher.factors`) the weights W of a layer are

        W' = Q_Aᵀ W Q_S

    at each place of the kernel, and nearly independent of each other. What the loss rises by, to
    second order, if a row i or a column j of W' is zero, is

        ΔL(i) = 1/2 Σ_k Σ_j W'[k, i, j]² Λ[k, i, j],    ΔL(j) likewise over i

    with Λ the second moments of the gradient measured in that basis, as in EKFAC. The rows and
    columns of all layers are ranked together, and the `ratio` with the lowest ΔL goes. A layer then
    is three: a 1x1 rotation in, the core of what is left of W', and a 1x1 rotation out with the
    bias and the activation. They are plain Keras layers that train on, save, load and export
    without ptkeras. Where fewer multiply-accumulates do, layers are merged or left as they were: a
    side that costs as much unpruned stays whole; a dense layer or 1x1 convolution becomes two of
    low rank; and what would get dearer stays as it is. The next pruning of the same model prunes
    the cores again and merges its rotations into those that are there.

    In two things the authors' code does otherwise: it compares forms of a layer by their parameters
    and not by their multiply-accumulates, and it never prunes the last layer, which here is ranked
    with the others; `leave_alone` names it to have it spared.

    The widths between layers stay, so that shortcuts and all else in the network hold. The model
    that the caller holds is the pruned one; if it is compiled, new layers' slots of the optimiser
    begin anew and all others are kept.

    Left as they are: layers that `ptkeras.fisher.layers` leaves out (grouped and depthwise
    convolutions among them), those with a constraint on the kernel, and biases: no row or column
    holds one, since it is added behind the rotation out.

    Args:
        model: a Functional or built Sequential model, trained. Layers inside of layers of your own
            stay as they are, since code cannot be edited: `ptkeras.as_functional(model)` is a model
            of the same weights without such layers, and of a model whose `call` is Python code.
        x: examples of the training data, as the model takes them: an array, or a list or dict of
            arrays. Targets are drawn from the model itself.
        ratio: the share of all rows and columns that goes, from 0 and under 1.
        ratio_limit: the largest share of one layer's rows, and of its columns, that goes, over 0
            and under 1. The authors have 0.95 or 0.97 for one pass and 0.5 for iterations.
        loss: what the outputs predict, see `ptkeras.fisher.factors`.
        leave_alone: names or paths of layers that stay as they are and are not ranked.
        batch_size: the number of examples in a mini-batch.
        seed: of the generator that targets are drawn with.

    Returns:
        The report, a table per layer; `str` and `rich.print` show it.

    Raises:
        ValueError: an argument is out of its range, there is nothing to prune, or the loss is no
            likelihood that is known, or masks of `ptkeras.MagnitudePruning` or the lasso of
            `ptkeras.PruneTrain` are on the model. The model is as it was.
    """
    check_number("ratio of EigenDamage", ratio, lambda r: 0 <= r < 1, "a number from 0 and under 1")
    check_number(
        "ratio_limit of EigenDamage",
        ratio_limit,
        lambda r: 0 < r < 1,
        "a number over 0 and under 1",
    )
    check_resizable(model)
    if lasso.is_attached(model):
        raise ValueError(
            f"PruneTrain has its lasso on '{model.name}', for kernels of the size that they have: "
            "prune behind its fit. What one that broke off has left, ptkeras.lasso.detach(model) "
            "takes off."
        )
    names = paths(model)
    found = _to_prune(model, leave_alone, names)
    measured = importances(model, x, found, loss=loss, batch_size=batch_size, seed=seed)
    counts = _survivors([each.damage for each in measured], ratio, ratio_limit)
    params = model.count_params()
    rows: list[LayerChange] = []
    changes: dict[int, list[Stage]] = {}
    taken = {layer.name for layer in flatten_layers(model)}
    for each, (reads, makes) in zip(measured, counts, strict=True):
        new = _in_fewer(each, (reads, makes))
        if new is not each.form:
            changes |= stages(each.chain, new, taken)
        rows.append(_row(each, new, (reads, makes), names))
    replace(model, changes)
    before, after = (sum(row.macs[i] for row in rows) for i in (0, 1))
    return EigenDamageReport(tuple(rows), (params, model.count_params()), (before, after))


class Importances(NamedTuple):
    """A chain in its eigenbasis.

    Attributes:
        chain: the layers.
        form: their numbers.
        bases: of what the core reads, and of what it makes.
        damage: what the loss rises by without each direction of what the core reads (a row of W'),
            and of what it makes (a column).
        positions: as in `ptkeras.fisher.Factors`, of the whole chain.
    """

    chain: Chain
    form: Form
    bases: tuple[Basis, Basis]
    damage: tuple[np.ndarray, np.ndarray]
    positions: tuple[float, float]


def importances(
    model: keras.Model, x: Any, found: list[Chain], **options: Any
) -> list[Importances]:
    """Measures what the loss rises by without each row and each column.

    Args:
        model: the model.
        x: examples.
        found: chains of its layers; those that are never called are left out.
        **options: `loss`, `batch_size` and `seed`, as in `prune`.
    """
    seed = options.pop("seed")
    cores = [chain.core for chain in found]
    known = fisher.factors(model, x, of=cores, seed=[seed, 0], **options)
    by_layer = {id(each.layer): each for each in known}
    bases = {key: (f.inputs.basis(), f.gradients.basis()) for key, f in by_layer.items()}
    cores = [each.layer for each in known]
    moments = fisher.second_moments(model, x, bases, of=cores, seed=[seed, 1], **options)
    result = []
    for chain in found:
        key = id(chain.core)
        if key not in by_layer:
            continue
        form, (reads, makes) = form_of(chain), bases[key]
        turned = makes.rotate(reads.rotate(form.core.swapaxes(1, 2)).swapaxes(1, 2))
        each = 0.5 * (np.square(turned) * moments[key]).sum(0)
        damage, positions = (each.sum(1), each.sum(0)), by_layer[key].positions
        result.append(Importances(chain, form, (reads, makes), damage, positions))
    return result


def _survivors(
    damage: list[tuple[np.ndarray, np.ndarray]], ratio: float, limit: float
) -> list[tuple[int, int]]:
    """How many rows and columns of each layer stay, if the lowest of all go."""
    flat = [side for sides in damage for side in sides]
    order = np.argsort(np.concatenate(flat), kind="stable")
    gone = np.zeros(len(order), bool)
    gone[order[: int(ratio * len(order))]] = True
    ends = np.cumsum([len(side) for side in flat])[:-1]
    stay = [
        max(int((~part).sum()), math.ceil(round(len(part) * (1 - limit), 9)), 1)
        for part in np.split(gone, ends)
    ]
    return list(zip(stay[::2], stay[1::2], strict=True))


def _to_prune(model: keras.Model, leave_alone: Iterable[str], names: dict[int, str]) -> list[Chain]:
    if isinstance(leave_alone, str):
        raise ValueError(f"leave_alone must be a list of layer names; received {leave_alone!r}.")
    found = chains(model)
    known = {name for c in found for x in c.layers for name in (x.name, names.get(id(x)))}
    alone = set(leave_alone)
    if unknown := sorted(alone - known):
        hint = did_you_mean(unknown[0], filter(None, known), "'{}'")
        raise ValueError(
            f"'{model.name}' has no layer {unknown[0]!r} that EigenDamage prunes{hint}: leave it "
            "out of leave_alone."
        )
    found = [c for c in found if not any({x.name, names.get(id(x))} & alone for x in c.layers)]
    if not found:
        raise ValueError(
            f"'{model.name}' has no layer that EigenDamage could prune: it takes ungrouped Conv1D, "
            "Conv2D, Conv3D and Dense layers that the graph calls itself. If they are inside of "
            "layers of your own, prune the Functional model ptkeras.as_functional(model)."
        )
    return found


def _in_fewer(each: Importances, stay: tuple[int, int]) -> Form:
    """The form of a chain with so many directions; the one it has if no other one is cheaper."""
    ways = cheapest(each.form, stay, each.positions)
    if ways is None:
        return each.form
    reads, makes = (
        directions(basis, damage, count) if way == "prune" else None
        for basis, damage, count, way in zip(each.bases, each.damage, stay, ways, strict=True)
    )
    return pruned(each.form, reads, makes, *ways)


def _row(each: Importances, new: Form, stay: tuple[int, int], names: dict[int, str]) -> LayerChange:
    sizes = [basis.size for basis in each.bases]
    reads, makes = ((size - left, size) for size, left in zip(sizes, stay, strict=True))
    before, after = (round(form.macs(each.positions)) for form in (each.form, new))
    return LayerChange(
        name=names.get(id(each.chain.last), each.chain.last.name),
        kind=type(each.chain.core).__name__,
        directions=(reads, makes),
        widths=(each.form.widths, new.widths),
        macs=(before, after),
    )
