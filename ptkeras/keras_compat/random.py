"""The seed generator of the process, which random operations without a seed draw from.

A checkpoint holds its state. Since Keras 3.0; a public `keras.random.get_state` would make this
module needless.
"""

from __future__ import annotations

from typing import Any

from keras.src.backend.common import global_state
from keras.src.random.seed_generator import GLOBAL_SEED_GENERATOR, global_seed_generator

__all__ = ["global_seed_generator", "known_global_seed_generator"]


def known_global_seed_generator() -> Any | None:
    """Returns the generator if something has drawn from it; `global_seed_generator` makes one."""
    return global_state.get_global_attribute(GLOBAL_SEED_GENERATOR)
