"""PruneTrain for Keras 3: networks that get smaller while they train."""

from ptkeras import channels, cost, surgery
from ptkeras.callbacks import PruneTrain
from ptkeras.regularizers import GroupLasso
from ptkeras.surgery import reconfigure
from ptkeras.version import __version__

__all__ = [
    "GroupLasso",
    "PruneTrain",
    "__version__",
    "channels",
    "cost",
    "reconfigure",
    "surgery",
]
