"""EigenDamage (Wang et al., ICML 2019): pruning where weights are independent of each other."""

from ptkeras.eigendamage.pruning import prune
from ptkeras.eigendamage.report import EigenDamageReport, LayerChange

__all__ = ["EigenDamageReport", "LayerChange", "prune"]
