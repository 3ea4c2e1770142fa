"""Magnitude weight pruning (Han et al., NIPS 2015): the smallest weights become zero, and stay."""

from ptkeras.magnitude.callback import MagnitudePruning
from ptkeras.magnitude.masks import strip
from ptkeras.magnitude.pruning import prune
from ptkeras.magnitude.report import KernelSparsity, SparsityReport, report
from ptkeras.magnitude.sweep import Sensitivity, Sweep, SweepRow, sensitivity, sweep

__all__ = [
    "KernelSparsity",
    "MagnitudePruning",
    "Sensitivity",
    "SparsityReport",
    "Sweep",
    "SweepRow",
    "prune",
    "report",
    "sensitivity",
    "strip",
    "sweep",
]
