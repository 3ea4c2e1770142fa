"""A layer as a rotation in, a small core and a rotation out, or as few of them as are cheapest."""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

import keras
import numpy as np

from ptkeras.eigendamage.chains import Chain, places
from ptkeras.fisher.basis import Basis
from ptkeras.surgery.configs import live_config
from ptkeras.surgery.replace import Stage
from ptkeras.utils.arrays import numbers


class Form(NamedTuple):
    """One way to compute what a chain computes.

    Attributes:
        before: the matrix of the rotation in, inputs by its outputs; None where there is none.
        core: the kernel of the core, its places by inputs by outputs.
        behind: the matrix of the rotation out; None where there is none.
    """

    before: np.ndarray | None
    core: np.ndarray
    behind: np.ndarray | None

    @property
    def widths(self) -> tuple[int, ...]:
        """The number of channels from the input over those between the layers to the output."""
        kernels = [k for k in (self.before, self.core, self.behind) if k is not None]
        return (kernels[0].shape[-2], *(k.shape[-1] for k in kernels))

    def macs(self, positions: tuple[float, float]) -> float:
        """Multiply-accumulates for one example.

        Args:
            positions: how many an example has in what the chain reads, and in what it makes. The
                stride of a 1x1 core is that of the first layer.
        """
        return _macs(_shapes(self), positions)


class _Shapes(NamedTuple):
    """The shapes of what a `Form` has."""

    before: tuple[int, ...] | None
    core: tuple[int, int, int]
    behind: tuple[int, ...] | None


def _shapes(form: Form) -> _Shapes:
    sides = [x if x is None else x.shape for x in (form.before, form.behind)]
    places, reads, makes = form.core.shape
    return _Shapes(sides[0], (places, reads, makes), sides[1])


def _macs(shapes: _Shapes, positions: tuple[float, float]) -> float:
    """`Form.macs` of a form whose matrices have these shapes."""
    read, made = positions
    before, behind = (0 if x is None else math.prod(x) for x in (shapes.before, shapes.behind))
    # A rotation ahead of a 1x1 core takes over its stride.
    read = made if shapes.core[0] == 1 else read
    return read * before + made * (math.prod(shapes.core) + behind)


def form_of(chain: Chain) -> Form:
    """A chain as it is."""

    def kernel(layer: keras.layers.Layer) -> np.ndarray:
        values = numbers(layer.kernel).astype("float64")
        return values.reshape(-1, *values.shape[-2:])

    sides = [x if x is None else kernel(x)[0] for x in (chain.before, chain.behind)]
    return Form(sides[0], kernel(chain.core), sides[1])


def pruned(
    form: Form,
    reads: np.ndarray | None,
    makes: np.ndarray | None,
    left: str = "prune",
    right: str = "prune",
) -> Form:
    """A chain with its core in another basis.

        W'[k] = Pᵀ W[k] R,    W[k] ≈ P W'[k] Rᵀ

    Args:
        form: the chain as it is. Where it has rotations, the new ones are merged into them.
        reads: P, orthonormal columns: directions of what the core reads; None if it is not pruned.
        makes: R, likewise of what it makes.
        left: what becomes of the side that it reads: `"prune"`; `"leave"`, as it is; or `"merge"`,
            the core takes in the rotation that is there.
        right: likewise of the side that it makes.
    """
    before, core, behind = form
    if left == "prune" and reads is not None:
        before = reads if before is None else before @ reads
        core = reads.T @ core
    elif left == "merge" and before is not None:
        before, core = None, before @ core
    if right == "prune" and makes is not None:
        behind = makes.T if behind is None else makes.T @ behind
        core = core @ makes
    elif right == "merge" and behind is not None:
        core, behind = core @ behind, None
    return Form(before, core, behind)


def cheapest(
    form: Form, kept: tuple[int, int], positions: tuple[float, float]
) -> tuple[str, str] | None:
    """How to prune a core in the fewest multiply-accumulates; None if it is cheapest as it is.

    On each side the core is pruned, left as it is, or merged with the rotation that is there. A
    side without a rotation of its own is computed with all of its directions: what is as cheap
    unpruned stays so. A 1x1 core is always merged with one of its sides, so that a dense layer
    becomes two of low rank.

    Args:
        form: the chain as it is.
        kept: how many directions stay of what the core reads, and of what it makes.
        positions: as in `Form.macs`.

    Returns:
        The `left` and `right` of `pruned`.
    """
    best: tuple[str, str] | None = None
    least = form.macs(positions)
    for ways in itertools.product(_ways(form.before), _ways(form.behind)):
        macs = _macs(_shapes_pruned(form, kept, *ways), positions)
        if macs < least:
            best, least = ways, macs
    return best


def _shapes_pruned(form: Form, kept: tuple[int, int], left: str, right: str) -> _Shapes:
    """Those of what `pruned` makes: a rotation that is not worth it may be too large to compute."""
    before, (places, reads, makes), behind = _shapes(form)
    if left == "prune":
        before = (before[0] if before else reads, kept[0])
        reads = kept[0]
    elif left == "merge" and before:
        reads, before = before[0], None
    if right == "prune":
        behind = (kept[1], behind[1] if behind else makes)
        makes = kept[1]
    elif right == "merge" and behind:
        makes, behind = behind[1], None
    return _Shapes(before, (places, reads, makes), behind)


def _ways(rotation: np.ndarray | None) -> tuple[str, ...]:
    return ("leave", "prune") if rotation is None else ("leave", "merge", "prune")


def directions(basis: Basis, importance: np.ndarray, count: int) -> np.ndarray:
    """The most important vectors of a basis, side by side.

    Args:
        basis: the basis.
        importance: a number for each of its vectors.
        count: how many.
    """
    return basis.columns(np.sort(np.argsort(-importance, kind="stable")[:count]))


def stages(chain: Chain, form: Form, taken: set[str]) -> dict[int, list[Stage]]:
    """The plain Keras layers of a form, for `ptkeras.surgery.replace`.

    The last layer has the name of the chain's last one, and its bias and activation. Each other one
    has the name, the options and the regularizers of the layer that was in its place; those that
    are new have the core's, and are called by the last one's name and `_rotation_in` and `_core`. A
    rotation that stays as it is stays the layer that it is, slots of the optimiser and all.

    Args:
        chain: what they take the place of.
        form: how it is to be computed.
        taken: the names that the model has; new ones are added.
    """
    core, last = chain.core, chain.last
    kernels = {i: kernel for i, kernel in enumerate(form) if kernel is not None}
    first, end = min(kernels), max(kernels)
    own = (chain.before, None if last is core else core, None)
    former = form_of(chain)
    made, kept = [], set()
    for i, kernel in kernels.items():
        layer, old = (chain.before, core, chain.behind)[i], former[i]
        if i != 1 and layer is not None and old is not None and np.array_equal(kernel, old):
            kept.add(id(layer))
            continue
        like = last if i == end else own[i] or core
        config = live_config(like)
        size = "units" if isinstance(core, keras.layers.Dense) else "filters"
        config[size] = kernel.shape[-1]
        if size == "filters":
            whole = i == 1 if len(form.core) > 1 else i == first
            config |= _geometry(core, whole)
        if i == end:
            config |= {"name": last.name, "use_bias": last.use_bias, "activation": last.activation}
        else:
            if own[i] is None:
                config["name"] = _free(f"{last.name}_{('rotation_in', 'core')[i]}", taken)
                taken.add(config["name"])
                config["activity_regularizer"] = None  # it is for what the whole makes
            config |= {"use_bias": False, "activation": None}
        bias = numbers(last.bias) if i == end and last.use_bias else None
        spatial = core.kernel.shape[:-2] if i == 1 else (1,) * (len(core.kernel.shape) - 2)
        shaped = kernel.reshape(*spatial, *kernel.shape[-2:]).astype("float32")
        made.append(Stage(config, type(core), shaped, bias, like))
    gone = [layer for layer in chain.layers if id(layer) not in kept]
    return {id(layer): made if layer is core else [] for layer in gone}


def _geometry(core: Any, whole: bool) -> dict[str, Any]:
    """Where a convolution looks: all of what the core does, or at one position at a time."""
    if whole and places(core) > 1:
        names = ("kernel_size", "strides", "padding", "dilation_rate")
        return {name: getattr(core, name) for name in names}
    rank = len(core.kernel_size)
    strides = core.strides if whole else (1,) * rank
    return {
        "kernel_size": (1,) * rank,
        "strides": strides,
        "padding": "valid",
        "dilation_rate": (1,) * rank,
    }


def _free(name: str, taken: set[str]) -> str:
    number = 0
    while (result := f"{name}_{number}" if number else name) in taken:
        number += 1
    return result
