"""PruneTrain (Lym et al., SC'19): pruning by group lasso from the first step of a training."""

from ptkeras.prunetrain.callback import PruneTrain
from ptkeras.prunetrain.records import Reconfiguration

__all__ = ["PruneTrain", "Reconfiguration"]
