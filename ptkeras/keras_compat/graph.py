"""Keras's graphs of operations: all of Keras 3.12 to 3.15, where these names are private.

A public way to read and edit the graph of a model would make this module needless.
"""

# What tells whether a call is symbolic, and sets the mask that Keras hands on with a tensor.
from keras.src.backend.common.keras_tensor import any_symbolic_tensors
from keras.src.backend.common.masking import set_keras_mask

# `keras.Functional` is not exported; `keras.Model(inputs, outputs)` makes one.
from keras.src.models.functional import Functional, functional_like_constructor

# What the constructor of a graph finds its nodes with: an edited graph is put in order by it.
from keras.src.ops.function import _build_map as build_map
from keras.src.ops.function import make_node_key, map_graph

# One call of an operation, and its arguments with the symbolic tensors among them.
from keras.src.ops.node import Node
from keras.src.ops.symbolic_arguments import SymbolicArguments

# What a layer knows its sublayers and variables by; a copy of a layer needs one of its own.
from keras.src.utils.tracking import Tracker

__all__ = [
    "Functional",
    "Node",
    "SymbolicArguments",
    "Tracker",
    "any_symbolic_tensors",
    "build_map",
    "functional_like_constructor",
    "make_node_key",
    "map_graph",
    "set_keras_mask",
]
