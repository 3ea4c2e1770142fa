"""Operations and the nodes that their calls make in a graph.

All names are private, since Keras 3.0. A public `KerasTensor.node` and public lists of nodes, as
Keras 2 had, would make this module needless.
"""

from __future__ import annotations

from typing import Any

import keras

OUTBOUND = "_outbound_nodes"
# Attributes of an operation with the nodes that it is called by, and with those that read these.
NODE_LISTS = ("_inbound_nodes", OUTBOUND)
# The attribute with what Keras has noted of the arguments of an operation; see `auto_config`.
AUTO_CONFIG = "_auto_config"


def maker_of(tensor: Any) -> Any:
    """Returns the operation that has made a symbolic tensor; None for what none has made."""
    history = getattr(tensor, "_keras_history", None)
    return None if history is None else history.operation


def node_of(tensor: keras.KerasTensor) -> Any:
    """Returns the node that has made a symbolic tensor; None for what none has made.

    Raises:
        AttributeError: If no operation has made or read the tensor.
    """
    operation, index, _ = tensor._keras_history
    return None if operation is None else operation._inbound_nodes[index]


def inbound_nodes(operation: keras.Operation) -> list[Any]:
    """Returns the very list of the nodes that an operation is called by."""
    return operation._inbound_nodes


def no_nodes() -> dict[str, list]:
    """Returns the attributes of an operation that was not called."""
    return {name: [] for name in NODE_LISTS}


def copy_operation(operation: Any) -> Any:
    """Returns an operation with the same attributes, and without nodes.

    For layers `copy.copy` would save and load; a public shallow copy would make this needless.
    """
    new = object.__new__(type(operation))
    vars(new).update(vars(operation), **no_nodes())
    return new


def auto_config(operation: Any) -> Any:
    """Returns the arguments that an operation was made with, as `config` of an object, or None.

    `Operation.get_config` is public, but serializes them, and raises where it cannot.
    """
    return getattr(operation, AUTO_CONFIG, None)


def flat_arguments(node: Any) -> list[Any]:
    """Returns the arguments of a node, flattened."""
    return node.arguments._flat_arguments


def no_losses() -> dict[str, Any]:
    """Returns the attributes of a layer that has added no losses."""
    return {"_losses": [], "_loss_ids": set()}
