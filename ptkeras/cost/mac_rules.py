"""The registry of what counts the multiply-accumulates of a layer or operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

Rule = Callable[[Any], int]
_RULES: dict[type | str, Rule] = {}


def register(*kinds: type | str) -> Callable[[Rule], Rule]:
    """Decorator: the function it is put on counts the MACs of calls of these types.

    Args:
        *kinds: Layer classes; a subclass without a rule of its own takes that of its base. Keras's
            own classes are also known by name, since those of `keras.ops` have no public one.

    Returns:
        The decorator, which hands the function back as it was.
    """

    def add(rule: Rule) -> Rule:
        _RULES.update(dict.fromkeys(kinds, rule))
        return rule

    return add


def rule_of(operation: keras.Operation) -> Rule | None:
    """The rule of the nearest base class that has one."""
    for kind in type(operation).__mro__:
        if kind in _RULES:
            return _RULES[kind]
        if kind.__module__.startswith("keras.") and kind.__name__ in _RULES:
            return _RULES[kind.__name__]
    return None


def has_own_rule(operation: keras.Operation) -> bool:
    """Whether a class that is not Keras's has a rule: then it counts as a whole."""
    kinds = type(operation).__mro__
    return any(k in _RULES and not k.__module__.startswith("keras.") for k in kinds)
