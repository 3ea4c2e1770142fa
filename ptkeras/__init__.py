"""PruneTrain for Keras 3: networks that get smaller while they train."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from ptkeras.version import __version__

if TYPE_CHECKING:
    from ptkeras import (
        channels,
        cost,
        data,
        eigendamage,
        export,
        fisher,
        from_scratch,
        importance,
        latency,
        magnitude,
        models,
        multi_worker,
        report,
        skipnet,
        surgery,
    )
    from ptkeras.channels.functional import as_functional
    from ptkeras.keras_compat.fused_batch_norm import fused_batch_norm
    from ptkeras.magnitude import MagnitudePruning
    from ptkeras.prunetrain import PruneTrain, lasso
    from ptkeras.pruning import prune, remove_channels
    from ptkeras.regularizers import GroupLasso
    from ptkeras.surgery import reconfigure
    from ptkeras.survival import Survival

__all__ = [
    "GroupLasso",
    "MagnitudePruning",
    "PruneTrain",
    "Survival",
    "__version__",
    "as_functional",
    "channels",
    "cost",
    "data",
    "eigendamage",
    "export",
    "fisher",
    "from_scratch",
    "fused_batch_norm",
    "importance",
    "lasso",
    "latency",
    "magnitude",
    "models",
    "multi_worker",
    "prune",
    "reconfigure",
    "remove_channels",
    "report",
    "skipnet",
    "surgery",
]

# Where each public name lives; None for a module of its own. They are imported when they are asked
# for: importing Keras takes seconds, and the command line tells of a wrong flag without it.
_HOMES = {
    "GroupLasso": "ptkeras.regularizers",
    "MagnitudePruning": "ptkeras.magnitude",
    "PruneTrain": "ptkeras.prunetrain",
    "Survival": "ptkeras.survival",
    "as_functional": "ptkeras.channels.functional",
    "channels": None,
    "cost": None,
    "data": None,
    "eigendamage": None,
    "export": None,
    "fisher": None,
    "from_scratch": None,
    "fused_batch_norm": "ptkeras.keras_compat.fused_batch_norm",
    "importance": None,
    "lasso": "ptkeras.prunetrain",
    "latency": None,
    "magnitude": None,
    "models": None,
    "multi_worker": None,
    "prune": "ptkeras.pruning",
    "reconfigure": "ptkeras.surgery",
    "remove_channels": "ptkeras.pruning",
    "skipnet": None,
    "report": None,
    "surgery": None,
}


if not TYPE_CHECKING:  # a type checker knows the names from above, and reports all others

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module 'ptkeras' has no attribute '{name}'")
        home = _HOMES[name]
        if home is None:
            return importlib.import_module(f"ptkeras.{name}")
        value = getattr(importlib.import_module(home), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)


if sys.argv[:1] != ["-m"]:  # what it is while Python imports the package of a `python -m` module
    import ptkeras.regularizers  # noqa: F401  (lets keras.models.load_model know GroupLasso)
