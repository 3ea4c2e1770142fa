"""PruneTrain for Keras 3: networks that get smaller while they train."""

from ptkeras.version import __version__

__all__ = ["__version__"]
