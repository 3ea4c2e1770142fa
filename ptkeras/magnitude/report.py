"""How sparse a model is, and what that saves."""

from __future__ import annotations

import dataclasses
import io
import zlib
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from rich.console import Console
from rich.table import Table

from ptkeras.magnitude.kernels import kernels


@dataclasses.dataclass(frozen=True)
class KernelSparsity:
    """One row of a `SparsityReport`.

    Attributes:
        path: the kernel's path.
        kind: `"conv"` or `"dense"`.
        size: the number of its weights.
        zeros: how many of them are zero.
        threshold: the magnitude under which they went; None where nobody said.
    """

    path: str
    kind: str
    size: int
    zeros: int
    threshold: float | None = None


@dataclasses.dataclass(frozen=True)
class SparsityReport:
    """The zeros of a model. Prints as a table.

    Attributes:
        kernels: a `KernelSparsity` for each kernel.
        params: the model's number of parameters, zeros among them.
        nonzero_params: the number of those that are not zero or are in no kernel.
        gzip_bytes: the size of all weights, compressed.
        raw_bytes: their size as they are.
    """

    kernels: tuple[KernelSparsity, ...]
    params: int
    nonzero_params: int
    gzip_bytes: int
    raw_bytes: int

    @property
    def sparsity(self) -> float:
        """The share of zeros in all kernels."""
        return self.sparsity_of("conv", "dense")

    def sparsity_of(self, *kinds: str) -> float:
        """The share of zeros in the kernels of some kinds; 0 where there are none."""
        rows = [row for row in self.kernels if row.kind in kinds]
        return sum(row.zeros for row in rows) / max(1, sum(row.size for row in rows))

    def __rich__(self) -> Table:
        """The table, for `rich.print`."""
        table = Table("kernel", "kind", title="Weights that are zero")
        for name in ("weights", "zeros", "sparsity", "threshold"):
            table.add_column(name, justify="right")
        for row in self.kernels:
            threshold = "" if row.threshold is None else f"{row.threshold:.3g}"
            share = f"{row.zeros / row.size:.1%}"
            table.add_row(row.path, row.kind, f"{row.size:,}", f"{row.zeros:,}", share, threshold)
        table.add_section()
        for kind in ("conv", "dense"):
            rows = [row for row in self.kernels if row.kind == kind]
            size, zeros = sum(row.size for row in rows), sum(row.zeros for row in rows)
            if rows:
                share = f"{zeros / size:.1%}"
                table.add_row(f"all {kind}", "", f"{size:,}", f"{zeros:,}", share, "")
        table.add_row(
            "parameters", "", f"{self.params:,}", f"{self.params - self.nonzero_params:,}", "", ""
        )
        smaller = f"{1 - self.gzip_bytes / max(1, self.raw_bytes):.1%}"
        table.add_row("bytes, gzip", "", f"{self.raw_bytes:,}", f"→ {self.gzip_bytes:,}", smaller)
        return table

    def __str__(self) -> str:
        return printed(self)


def report(model: keras.Model, thresholds: Mapping[str, float] | None = None) -> SparsityReport:
    """Counts the zeros of a model's kernels, and what its weights take when compressed.

    ```python
    print(ptkeras.magnitude.report(model))
    ```

    Compressed is gzip's deflate at its usual level over all weights, one after the other: what a
    compressed file, or an update over the air, comes to.

    Args:
        model: any built Keras model.
        thresholds: by path of the kernels, to show beside them.

    Returns:
        The report.

    Raises:
        ValueError: the model has no kernels.
    """
    thresholds = thresholds or {}
    rows = tuple(
        KernelSparsity(
            path=kernel.path,
            kind=kernel.kind,
            size=kernel.size,
            zeros=int(np.count_nonzero(kernel.values == 0)),
            threshold=thresholds.get(kernel.path),
        )
        for kernel in kernels(model)
    )
    params = model.count_params()
    compressor = zlib.compressobj(wbits=31)  # with the header of gzip
    compressed = raw = 0
    for variable in model.weights:
        data = np.ascontiguousarray(keras.ops.convert_to_numpy(variable.value)).tobytes()
        raw += len(data)
        compressed += len(compressor.compress(data))
    return SparsityReport(
        kernels=rows,
        params=params,
        nonzero_params=params - sum(row.zeros for row in rows),
        gzip_bytes=compressed + len(compressor.flush()),
        raw_bytes=raw,
    )


def printed(table: Any) -> str:
    """What `rich.print` would show, as plain text."""
    text = io.StringIO()
    Console(file=text, width=120, color_system=None).print(table)
    return text.getvalue()
