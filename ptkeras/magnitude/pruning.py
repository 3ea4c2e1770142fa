"""Magnitude pruning in one shot, for a model that is trained already."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import keras
import numpy as np

from ptkeras.magnitude import thresholds
from ptkeras.magnitude.kernels import Kernel, check_names, kernels
from ptkeras.magnitude.masks import Masks
from ptkeras.magnitude.report import SparsityReport, report
from ptkeras.surgery.holders import refresh_holders
from ptkeras.utils.arguments import check_share

Scope = Literal["layer", "kind", "global"]


def prune(
    model: keras.Model,
    sparsity: float | Mapping[str, float],
    *,
    scope: Scope = "layer",
    leave_alone: Iterable[str] = (),
) -> SparsityReport:
    """Sets the smallest weights of a trained model to zero, in place, and holds them there.

    ```python
    print(ptkeras.magnitude.prune(model, 0.8))
    ptkeras.magnitude.prune(model, 0.8, scope="kind")              # one threshold for all convs
    ptkeras.magnitude.prune(model, {"conv": 0.6, "dense": 0.9})    # a share for each kind
    ptkeras.magnitude.prune(model, {"conv1": 0.2, "conv2": 0.7})   # or layer; others stay whole
    model.fit(x, y, epochs=5)                                      # retrains with the zeros held
    ptkeras.magnitude.strip(model)
    ```

    Train, remove the weights under a threshold, retrain: Han et al., NIPS 2015 (arXiv 1506.02626).
    They set a layer's threshold to a multiple of the standard deviation of its weights; here it
    follows from the share of weights that goes. Weights are those of kernels: biases and
    normalisation stay. Weights at the threshold stay, so that fewer go where many are equal; but
    zeros that are there already go first and are all held, even if they are more than asked for.

    Zeros hold through all that an optimiser does in a step. An average over the steps (`use_ema`),
    which Keras puts in place of the weights when `fit` ends, needs a callback beside it:
    `ptkeras.MagnitudePruning(lambda step: None)`.

    Args:
        model: any built Keras model; it needs no graph.
        sparsity: the share of weights to go, from 0 and under 1; or such shares by the name or
            path of a layer, or by `"conv"` and `"dense"`: a layer's own share comes first, and
            kernels that nothing is said of stay whole.
        scope: what has one threshold: `"layer"`, each kernel; `"kind"`, all convolutions and all
            dense layers; `"global"`, all kernels. Shares by layer have thresholds by layer.
        leave_alone: names or paths of layers whose kernels stay whole, or `"conv"` or `"dense"`.

    Returns:
        The report, a table of kernels; `str` and `rich.print` show it.

    Raises:
        ValueError: an argument is out of its range, or no kernel goes by a name; the model is as
            it was.
    """
    check_scope(scope)
    chosen = kernels(model, leave_alone)
    asked = _shares(model, chosen, sparsity)
    if isinstance(sparsity, Mapping) and not set(sparsity) <= {"conv", "dense"}:
        scope = "layer"
    pairs = [(k, s) for k, s in zip(chosen, asked, strict=True) if s is not None]
    chosen, shares = [k for k, _ in pairs], [s for _, s in pairs]
    values = [kernel.values for kernel in chosen]
    found = {}
    for members in groups(chosen, scope, shares):
        threshold = thresholds.threshold([values[i] for i in members], shares[members[0]])
        found.update(dict.fromkeys(members, threshold))
    masks = [
        _mask(v, found[i], share) for i, (v, share) in enumerate(zip(values, shares, strict=True))
    ]
    _tell_of_averages(model)
    held = Masks(model, chosen)
    held.write(masks)
    held.lift(False)  # a fit that broke off in a step before masks change has left them lifted
    if keras.config.backend() == "jax":
        refresh_holders(model)  # a compiled step holds the masks as they were
    return report(model, {k.path: found[i] for i, k in enumerate(chosen)})


def _mask(values: np.ndarray, threshold: float, share: float) -> np.ndarray:
    """The weights that stay. Zeros at a threshold of zero go, unless nothing else is there."""
    if threshold == 0 < share and values.any():
        return values != 0
    return thresholds.mask(values, threshold)


def _tell_of_averages(model: keras.Model) -> None:
    optimizer = model.optimizer if model.compiled else None
    if getattr(getattr(optimizer, "inner_optimizer", optimizer), "use_ema", False):
        warnings.warn(
            f"The optimizer of '{model.name}' averages weights (use_ema), and fit ends with the "
            "averages, which are not zero: give it callbacks="
            "[ptkeras.MagnitudePruning(lambda step: None)], which drops them again.",
            stacklevel=3,
        )


def groups(
    chosen: Sequence[Kernel], scope: Scope, shares: Sequence[float] | None = None
) -> list[list[int]]:
    """The positions of the kernels that have one threshold together.

    Args:
        chosen: the kernels.
        scope: what has one threshold.
        shares: the share of each kernel's weights that goes; None where all have the same.
    """
    key = {
        "layer": lambda i: i,
        "kind": lambda i: chosen[i].kind,
        "global": lambda i: None,
    }[scope]
    together: dict[Any, list[int]] = {}
    for i in range(len(chosen)):
        together.setdefault((key(i), shares and shares[i]), []).append(i)
    return list(together.values())


def check_scope(scope: Any) -> None:
    """Refuses what is no scope."""
    if scope not in ("layer", "kind", "global"):
        raise ValueError(
            'The scope of magnitude pruning must be "layer", "kind" or "global"; received '
            f"{scope!r}."
        )


def m_by_n_kernels(model: keras.Model, chosen: Iterable[Kernel]) -> list[Kernel]:
    """The kernels that sum over input channels: those of depthwise convolutions stay whole.

    Raises:
        ValueError: it is open what lies along the input channels of a kernel, or none is left.
    """
    found = [kernel for kernel in chosen if not kernel.is_depthwise]
    for kernel in found:
        if kernel.kind == "dense" and len(kernel.variable.shape) != 2:
            shape = tuple(kernel.variable.shape)
            raise ValueError(
                f"sparsity_m_by_n is for convolutions and matrices, and the kernel of "
                f"'{kernel.path}' has the shape {shape}: put the layer into leave_alone."
            )
    if not found:
        raise ValueError(
            f"sparsity_m_by_n goes along input channels, and the kernels of '{model.name}' that "
            "it is for are all depthwise: give MagnitudePruning a schedule in place of it."
        )
    return found


def _shares(
    model: keras.Model, chosen: list[Kernel], sparsity: float | Mapping[str, float]
) -> list[float | None]:
    if not isinstance(sparsity, Mapping):
        return [check_share("sparsity", sparsity)] * len(chosen)
    if not sparsity:
        raise ValueError(
            "sparsity must name a layer or a kind, such as {'conv': 0.5}; received {}."
        )
    check_names(model, chosen, sparsity)
    sparsity = {k: check_share(f"sparsity of '{k}'", share) for k, share in sparsity.items()}
    return [_asked_of(kernel, sparsity) for kernel in chosen]


def _asked_of(kernel: Kernel, sparsity: Mapping[str, float]) -> float | None:
    for name in (kernel.path, kernel.layer.path, kernel.layer.name, kernel.kind):
        if name in sparsity:
            return sparsity[name]
    return None
