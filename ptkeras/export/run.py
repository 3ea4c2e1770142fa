"""What a run folder tells about its network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_TOLD = ("method", "dataset", "model", "accuracy", "epochs", "seed")
_TOLD_IF_THERE = ("sparsity",)  # if weights were set to zero


def metadata(folder: Path) -> dict[str, Any]:
    """The figures for an artifact's metadata, from a run's `result.json`.

    Args:
        folder: where a `model.keras` lies, in a run folder or not.

    Returns:
        The method, data set, network, test accuracy, epochs and seed of the run, and the share of
        zeros where its method has one; nothing if the folder is not that of a finished run.
    """
    try:
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(result, dict):
        return {}
    told = {("network" if name == "model" else name): result.get(name) for name in _TOLD}
    return told | {name: result[name] for name in _TOLD_IF_THERE if name in result}
