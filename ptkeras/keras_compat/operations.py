"""The classes of the operations of `keras.ops`, by the module of Keras that has them.

`keras.ops.reshape(x, …)` on a symbolic tensor makes an object of a class that Keras does not
export. The installed Keras may lack some of them (3.12 lacks a few): a class that nothing is made
of stands for such a one, so that all that is missing is its rule.

The modules are those of Keras 3.0 to 3.15. An export of the classes would make this needless.
"""

from __future__ import annotations

import importlib
from typing import Any


class _Operations:
    """The operations of one module of Keras."""

    def __init__(self, name: str) -> None:
        self._module = importlib.import_module(f"keras.src.ops.{name}")

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._module, name, None)
        if found is None:
            found = type(name, (), {"__doc__": "An operation that the installed Keras lacks."})
        setattr(self, name, found)
        return found


keras_core = _Operations("core")
keras_image = _Operations("image")
keras_linalg = _Operations("linalg")
keras_math = _Operations("math")
keras_nn = _Operations("nn")
keras_numpy = _Operations("numpy")
