"""Functions of the user's own, named as `package.module:function`."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from typing import Any

_FORM = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def names_function(name: str) -> bool:
    """Returns whether a name has the form `package.module:function`."""
    return _FORM.fullmatch(name) is not None


def function_named(name: str, what: str) -> Callable[..., Any]:
    """Imports a function.

    Args:
        name: `package.module:function`.
        what: what the function makes, such as "network", for messages.

    Raises:
        ValueError: If it cannot be imported, or there is no such function.
    """
    module, _, attribute = name.partition(":")
    try:
        found = importlib.import_module(module)
    except Exception as error:  # whatever is wrong in the user's module
        raise ValueError(
            f"The {what} '{name}' cannot be imported ({type(error).__name__}: {error}): name a "
            "function as package.module:function, from where Python finds the module."
        ) from error
    function = getattr(found, attribute, None)
    if not callable(function):
        raise ValueError(
            f"'{module}' has no function '{attribute}', so that there is no {what} '{name}'."
        )
    return function
