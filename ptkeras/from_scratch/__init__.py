"""Pruning from Scratch (Wang et al., AAAI 2020): a structure found before weights are trained."""

from ptkeras.from_scratch.gates import (
    Search,
    learn_gates,
)

__all__ = [
    "Search",
    "learn_gates",
]
