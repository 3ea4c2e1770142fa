"""Whether the figures of a run are in the form that a run writes them in."""

from __future__ import annotations

import re
import reprlib
import sys
from collections.abc import Callable
from typing import Any


def check(file: str, there: dict[str, Any]) -> None:
    """Refuses figures that no run writes; those that are not there are none of them.

    Args:
        file: the name of the file, for the message.
        there: what is in it.

    Raises:
        ValueError: there are such.
    """
    for key, fits in FORMS.items():
        if key in there and not fits(there[key]):
            raise ValueError(f"{file} has {reprlib.repr(there[key])} as {key}")


def _number(value: Any) -> bool:
    is_one = isinstance(value, int | float) and not isinstance(value, bool)
    return is_one and 0 <= value <= sys.float_info.max  # which NaN is not


def _share(value: Any) -> bool:
    return _number(value) and value <= 1


def _shares(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_share, value.values()))


def _counts(value: Any) -> bool:
    # No network has more blocks than four digits say, and a plot has no room for them.
    return _shares(value) and all(re.fullmatch(r"[0-9]{1,4}", key) for key in value)


def _numbers(count: int) -> Callable[[Any], bool]:
    def fits(value: Any) -> bool:
        return isinstance(value, list) and len(value) == count and all(map(_number, value))

    return fits


def _gates(value: Any) -> bool:
    return _numbers(2)(value) and all(isinstance(n, int) for n in value) and value[1] <= value[0]


def _networks(value: Any) -> bool:
    return isinstance(value, list) and all(map(_network, value))


def _network(row: Any) -> bool:
    if not isinstance(row, dict) or not isinstance(row.get("network"), str):
        return False
    figures = (row.get(key) for key in ("accuracy", "params", "inference_flops", "milliseconds"))
    return all(figure is None or _number(figure) for figure in figures)


def _whole(value: Any) -> bool:
    return _number(value) and isinstance(value, int)


def _positive(value: Any) -> bool:
    return _number(value) and value > 0


# What a figure must look like, by its name: those of gates, pairs (before, after) of costs, others.
GATES: dict[str, Callable[[Any], bool]] = {
    "blocks_run": _share,
    "blocks_run_by_block": _shares,
    "images_by_blocks_run": _counts,
    "blocks_run_by_class": _shares,
    "gates": _gates,
    "flops_quartiles": _numbers(5),
    "mean_inference_flops": _number,
    "milliseconds_keras": _numbers(2),
    "milliseconds_onnxruntime": _numbers(2),
    "comparison": _networks,
}
COSTS = ("channels", "params", "inference_flops")
_PAIRS = (
    *COSTS,
    "training_flops",
    "training_memory",
    "gradient_traffic",
    "nonzero_params",
    "gzip_bytes",
)
FORMS: dict[str, Callable[[Any], bool]] = {
    **GATES,
    **dict.fromkeys(_PAIRS, _numbers(2)),
    **dict.fromkeys(("accuracy", "sparsity"), _share),
    **dict.fromkeys(("epochs", "dense_epochs", "epoch"), _whole),
    **dict.fromkeys(("seconds", "search_seconds", "prune_seconds"), _number),
    "per_decade": _positive,
}
