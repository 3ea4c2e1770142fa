"""Whether what a run has left is in the form that a run leaves it in."""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Callable, Mapping
from typing import Any

Form = Callable[[Any], bool]

_LARGEST = 1e30  # what is larger is no figure of a training, and no plot has room for it


def check(file: str, there: Mapping[str, Any], forms: Mapping[str, Form]) -> None:
    """Refuses figures that no run writes; those that are not there are none of them.

    Args:
        file: the name of the file, for the message.
        there: what is in it.
        forms: what a figure must look like, by its name.

    Raises:
        ValueError: there are such.
    """
    for key, fits in forms.items():
        if key in there and not fits(there[key]):
            raise ValueError(f"{file} has {reprlib.repr(there[key])} as {key}")


def check_history(history: Mapping[str, list[float]], epochs: int) -> None:
    """Refuses a table that is not one row an epoch, or has numbers that no run writes.

    Args:
        history: the columns of `history.csv`.
        epochs: how many epochs were trained.

    Raises:
        ValueError: it is one.
    """
    if history["epoch"] != list(range(1, epochs + 1)):
        there = reprlib.repr([f"{epoch:g}" for epoch in history["epoch"]])
        raise ValueError(f"history.csv has the epochs {there}, and result.json {epochs} of them")
    for name, column in history.items():
        most = 1.0 if name in ("accuracy", "val_accuracy") else _LARGEST
        for number in column:
            if not (abs(number) <= most or math.isnan(number)):
                raise ValueError(f"history.csv has {number:g} as {name}")


def _between(least: float, most: float) -> Form:
    def fits(value: Any) -> bool:
        is_one = isinstance(value, int | float) and not isinstance(value, bool)
        return is_one and least <= value <= most  # which NaN is not

    return fits


_number, _share = _between(0, _LARGEST), _between(0, 1)


def _whole(value: Any) -> bool:
    return _number(value) and isinstance(value, int)


def _text(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable() and 0 < len(value) < 1000


def _by_name(fits: Form) -> Form:
    def all_fit(value: Any) -> bool:
        return isinstance(value, dict) and all(map(fits, value.values()))

    return all_fit


def _list(fits: Form, count: int | None = None) -> Form:
    def all_fit(value: Any) -> bool:
        is_one = isinstance(value, list) and count in (None, len(value))
        return is_one and all(map(fits, value))

    return all_fit


def _counts(value: Any) -> bool:
    # No network has more blocks than four digits say, and a plot has no room for them.
    return _by_name(_share)(value) and all(re.fullmatch(r"[0-9]{1,4}", key) for key in value)


def _gates(value: Any) -> bool:
    return _list(_whole, 2)(value) and value[1] <= value[0]


def _network(row: Any) -> bool:
    if not isinstance(row, dict) or not isinstance(row.get("network"), str):
        return False
    figures = (row.get(key) for key in ("accuracy", "params", "inference_flops", "milliseconds"))
    return all(figure is None or _number(figure) for figure in figures)


def _moment(value: Any) -> bool:
    forms = {"name": _text, "epoch": _whole, "counts": _list(_whole)}
    return isinstance(value, dict) and all(fits(value.get(key)) for key, fits in forms.items())


def _moments(value: Any) -> bool:
    if not _list(_moment)(value):
        return False
    bins = {len(moment["counts"]) for moment in value}
    return len(bins) == 1 and 0 < bins.pop() <= 1000


COSTS = ("channels", "params", "inference_flops")
_PAIRS = (
    *COSTS,
    "training_flops",
    "training_memory",
    "gradient_traffic",
    "nonzero_params",
    "gzip_bytes",
)
GATES: dict[str, Form] = {
    "blocks_run": _share,
    "blocks_run_by_block": _by_name(_share),
    "images_by_blocks_run": _counts,
    "blocks_run_by_class": _by_name(_share),
    "gates": _gates,
    "flops_quartiles": _list(_number, 5),
    "mean_inference_flops": _number,
    "milliseconds_keras": _list(_number, 2),
    "milliseconds_onnxruntime": _list(_number, 2),
    "comparison": _list(_network),
}
RESULT: dict[str, Form] = {
    **GATES,
    **dict.fromkeys(_PAIRS, _list(_number, 2)),
    **dict.fromkeys(("dataset", "model", "method"), _text),
    **dict.fromkeys(("seed", "epochs", "dense_epochs"), _whole),
    **dict.fromkeys(("accuracy", "sparsity"), _share),
    **dict.fromkeys(("seconds", "search_seconds", "prune_seconds"), _number),
}
NETWORK: dict[str, Form] = {"layers": _by_name(_whole), "macs": _by_name(_number)}
CHANGE: dict[str, Form] = {
    **dict.fromkeys(COSTS, _list(_number, 2)),
    "layers": _by_name(_list(_whole, 2)),
    "epoch": _whole,
    "seconds": _number,
}
NORMS: dict[str, Form] = {
    "lowest": _between(-100, 100),
    "per_decade": _between(5, 1000),
    "moments": _moments,
}
