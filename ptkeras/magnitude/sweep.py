"""What magnitude pruning costs in accuracy: over all ratios, and layer by layer."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import numpy as np
from rich.table import Table

from ptkeras.magnitude import thresholds
from ptkeras.magnitude.kernels import kernels
from ptkeras.magnitude.masks import strip
from ptkeras.magnitude.pruning import Scope, prune
from ptkeras.magnitude.report import printed
from ptkeras.utils.arguments import check_share

RATIOS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)

Evaluate = Callable[[keras.Model], float]


@dataclasses.dataclass(frozen=True)
class SweepRow:
    """What came of one ratio.

    Attributes:
        ratio: the share of weights that was to go.
        accuracy: what `evaluate` says of the pruned model.
        finetuned: what it says behind the fine-tuning; None without.
        conv_threshold: the magnitude under which weights of convolutions went; the mean of the
            layers' under the scope "layer", None where there are none.
        dense_threshold: likewise of all other kernels.
        conv_sparsity: the share of zeros in convolutions.
        dense_sparsity: likewise in all other kernels.
        gzip_bytes: the size of the model's weights, compressed.
    """

    ratio: float
    accuracy: float
    finetuned: float | None
    conv_threshold: float | None
    dense_threshold: float | None
    conv_sparsity: float
    dense_sparsity: float
    gzip_bytes: int


@dataclasses.dataclass(frozen=True)
class Sweep:
    """The accuracies of a model over the ratios. Prints as a table.

    Attributes:
        dense: the accuracy of the model as it is.
        rows: a `SweepRow` for each ratio.
    """

    dense: float
    rows: tuple[SweepRow, ...]

    def __rich__(self) -> Table:
        """The table, for `rich.print`."""
        table = Table(title="Accuracy, thresholds and zeros by ratio")
        names = ("ratio", "pruned", "fine-tuned", "conv <", "dense <", "conv 0", "dense 0", "gzip")
        for name in names:
            table.add_column(name, justify="right", no_wrap=True)
        table.add_row("0", f"{self.dense:.2%}")
        for row in self.rows:
            table.add_row(
                f"{row.ratio:g}",
                f"{row.accuracy:.2%}",
                "" if row.finetuned is None else f"{row.finetuned:.2%}",
                *(
                    "" if t is None else f"{t:.3g}"
                    for t in (row.conv_threshold, row.dense_threshold)
                ),
                f"{row.conv_sparsity:.1%}",
                f"{row.dense_sparsity:.1%}",
                f"{row.gzip_bytes / 1e3:,.0f} kB",
            )
        return table

    def __str__(self) -> str:
        return printed(self)


@dataclasses.dataclass(frozen=True)
class Sensitivity:
    """How much each kernel bears by itself. Prints as a table.

    Attributes:
        dense: the accuracy of the model as it is.
        ratios: the shares of a kernel's weights that were to go.
        accuracies: for the path of each kernel the accuracy at each of the ratios, all other
            kernels whole.
    """

    dense: float
    ratios: tuple[float, ...]
    accuracies: dict[str, tuple[float, ...]]

    def __rich__(self) -> Table:
        """The table, for `rich.print`."""
        table = Table(title=f"Accuracy with one kernel pruned ({self.dense:.2%} with none)")
        table.add_column("kernel", overflow="fold")
        for ratio in self.ratios:
            table.add_column(f"{ratio:g}", justify="right")
        for path, accuracies in self.accuracies.items():
            table.add_row(path, *(f"{accuracy:.2%}" for accuracy in accuracies))
        return table

    def __str__(self) -> str:
        return printed(self)


def sweep(
    model: keras.Model,
    evaluate: Evaluate,
    ratios: Iterable[float] = RATIOS,
    *,
    scope: Scope = "kind",
    finetune: Callable[[keras.Model], Any] | None = None,
) -> Sweep:
    """Prunes a trained model to one ratio after the other, each time from what it is now.

    ```python
    evaluate = lambda model: model.evaluate(x_test, y_test, return_dict=True)["accuracy"]
    print(ptkeras.magnitude.sweep(model, evaluate, finetune=lambda model: model.fit(x, y)))
    ```

    The model, and its optimiser if it is compiled, are what they were in the end. Convolutions and
    dense layers have thresholds of their own, unless the scope says otherwise.

    Args:
        model: any built Keras model; masks that it has are taken off.
        evaluate: returns the accuracy of a model, from 0 to 1.
        ratios: the shares of weights to go, each from 0 and under 1.
        scope: what has one threshold, see `prune`.
        finetune: trains the pruned model, with the zeros held; None for no fine-tuning. A model
            that it compiles stays compiled so.

    Returns:
        The accuracies and thresholds.

    Raises:
        ValueError: as `prune` does.
    """
    dense = float(evaluate(model))
    return Sweep(dense, tuple(swept(model, evaluate, r, scope, finetune) for r in ratios))


def swept(
    model: keras.Model,
    evaluate: Evaluate,
    ratio: float,
    scope: Scope = "kind",
    finetune: Callable[[keras.Model], Any] | None = None,
) -> SweepRow:
    """One row of `sweep`, with the same arguments."""
    with _as_it_was(model):
        report = prune(model, ratio, scope=scope)
        accuracy = float(evaluate(model))
        finetuned = None
        if finetune is not None:
            finetune(model)
            finetuned = float(evaluate(model))
    means = {}
    for kind in ("conv", "dense"):
        of_kind = [row.threshold for row in report.kernels if row.kind == kind]
        found = [threshold for threshold in of_kind if threshold is not None]
        means[kind] = sum(found) / len(found) if found else None
    return SweepRow(
        ratio=ratio,
        accuracy=accuracy,
        finetuned=finetuned,
        conv_threshold=means["conv"],
        dense_threshold=means["dense"],
        conv_sparsity=report.sparsity_of("conv"),
        dense_sparsity=report.sparsity_of("dense"),
        gzip_bytes=report.gzip_bytes,
    )


def sensitivity(
    model: keras.Model, evaluate: Evaluate, ratios: Iterable[float] = RATIOS
) -> Sensitivity:
    """Prunes each kernel by itself: layers that bear much may lose more than others.

    Han et al. choose the threshold of each layer so (figure 6 of the paper). What the table says
    goes into `prune` as a dict.

    ```python
    print(ptkeras.magnitude.sensitivity(model, evaluate))
    ptkeras.magnitude.prune(model, {"conv1": 0.3, "conv2": 0.8, "dense": 0.9})
    ```

    Args:
        model: any built Keras model; it is what it was in the end.
        evaluate: returns the accuracy of a model, from 0 to 1.
        ratios: the shares of a kernel's weights to go, each from 0 and under 1.

    Returns:
        The accuracies.

    Raises:
        ValueError: as `prune` does.
    """
    ratios = tuple(check_share("ratio", ratio) for ratio in ratios)
    dense = float(evaluate(model))
    accuracies = {}
    for kernel in kernels(model):
        values = kernel.values
        accuracies[kernel.path] = tuple(
            _without_small(model, kernel.variable, values, ratio, evaluate) for ratio in ratios
        )
    return Sensitivity(dense, ratios, accuracies)


def _without_small(
    model: keras.Model,
    variable: keras.Variable,
    values: np.ndarray,
    ratio: float,
    evaluate: Evaluate,
) -> float:
    """The accuracy without the smallest weights of one kernel. Nothing trains, so no mask holds."""
    keep = thresholds.mask(values, thresholds.threshold([values], ratio))
    variable.assign(np.where(keep, values, np.zeros((), values.dtype)))
    try:
        return float(evaluate(model))
    finally:
        variable.assign(values)


@contextlib.contextmanager
def _as_it_was(model: keras.Model) -> Iterator[None]:
    """Takes off masks before and behind, and brings back weights and the optimiser's state."""
    strip(model)
    optimizer = model.optimizer if model.compiled else None
    if optimizer is not None and not optimizer.built:
        optimizer.build(model.trainable_variables)
    variables = [*model.variables, *(optimizer.variables if optimizer is not None else [])]
    values = [keras.ops.convert_to_numpy(v.value) for v in variables]
    try:
        yield
    finally:
        strip(model)
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
