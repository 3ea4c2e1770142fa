"""The published systems: one file each, behind one contract, `ptkeras.methods.method.Method`."""

from __future__ import annotations

import importlib

from ptkeras.methods.method import Method, Start

__all__ = ["Method", "Start", "distributed", "find", "get", "names", "registered"]

# A line for each method: a module with a `METHOD`. `--help` has their sections in this order.
REGISTRY = [
    "ptkeras.methods.dense",
    "ptkeras.methods.prunetrain",
    "ptkeras.methods.magnitude",
    "ptkeras.methods.pruning_from_scratch",
    "ptkeras.methods.eigendamage",
    "ptkeras.methods.skipnet",
    "ptkeras.methods.static_dynamic",
]


def registered() -> dict[str, Method]:
    """Returns all methods by their names, in the order of the registry."""
    methods = (importlib.import_module(module).METHOD for module in REGISTRY)
    return {method.name: method for method in methods}


def names() -> list[str]:
    """Returns the names of all methods."""
    return sorted(registered())


def distributed() -> list[str]:
    """Returns the names of the methods that train on several devices."""
    return [name for name, method in registered().items() if method.is_distributed]


def get(name: str) -> Method:
    """Returns the method of a name that `names` has."""
    return registered()[name]


def find(name: str) -> Method:
    """Returns the method of a finished run; if it is not known here, one without anything special.

    Args:
        name: what `result.json` holds as its method.
    """
    return registered().get(name) or Method()
