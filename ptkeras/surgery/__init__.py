"""Makes a model smaller: a keep mask over channels in, the same model object out."""

from ptkeras.surgery.layers import register
from ptkeras.surgery.reconfigure import can_remove, reconfigure

__all__ = ["can_remove", "reconfigure", "register"]
