"""The Fisher information of convolutions and dense layers, Kronecker-factored (K-FAC)."""

from ptkeras.fisher.factors import Factors, factors, layers, second_moments

__all__ = ["Factors", "factors", "layers", "second_moments"]
