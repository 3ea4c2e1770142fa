"""Makes a model smaller: a keep mask over channels in, the same model object out."""

from ptkeras.surgery import resizers as _resizers  # noqa: F401  (fills the registry)
from ptkeras.surgery.layers import register
from ptkeras.surgery.reconfigure import can_remove, reconfigure

__all__ = ["can_remove", "reconfigure", "register"]
