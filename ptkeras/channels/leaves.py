"""Which layers are known as a whole, and which are to be seen through."""

from __future__ import annotations

from typing import Any

from ptkeras.channels.graph import is_graph
from ptkeras.channels.registry import rule_for


def is_leaf(layer: Any) -> bool:
    """Whether a layer is known as a whole, so that there is no need to see through it."""
    return is_graph(layer) or (rule_for(layer) is not None and not is_changed(layer))


def is_changed(layer: Any) -> bool:
    """Whether a layer computes something else than its type says: LoRA or quantized weights."""
    return bool(getattr(layer, "lora_enabled", False) or getattr(layer, "quantization_mode", None))
