"""Command line tools over `ptkeras.export`."""

import ptkeras  # noqa: F401  (here and not later: while `python -m` starts it does not load Keras)
