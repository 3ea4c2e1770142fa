"""Makes a model smaller: a keep mask over channels in, the same objects out, smaller."""

from ptkeras.surgery import resizers as _resizers  # noqa: F401  (fills the registry)
from ptkeras.surgery.reconfigure import reconfigure
from ptkeras.surgery.sizes import register

__all__ = ["reconfigure", "register"]
