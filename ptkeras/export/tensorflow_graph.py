"""A model as one flat TensorFlow graph without calls and variables."""

from __future__ import annotations

import gc
import itertools
from typing import Any, NamedTuple

from ptkeras.export.served import Served
from ptkeras.export.tracing import check_memory, trace


class FrozenGraph(NamedTuple):
    """A GraphDef of constants, and the names of the tensors at its ends.

    Attributes:
        graph_def: the graph.
        inputs: a tensor name, such as "image:0", per input.
        outputs: a tensor name by output name.
    """

    graph_def: Any
    inputs: list[str]
    outputs: dict[str, str]


def freeze(served: Served) -> FrozenGraph:
    """The graph of a model with its weights as constants, and no functions left.

    Keras compiles grouped convolutions with XLA, since TensorFlow has no kernel of its own for them
    on a CPU. Marked so, they stay calls that no converter follows; here the mark goes.

    Raises:
        ExportError: If the model draws random numbers or keeps a state from call to call.
    """
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    traced = trace(served)
    check_memory(served.model, traced.remembered)
    concrete = traced.concrete
    del traced
    outputs = {name: tensor.name for name, tensor in concrete.structured_outputs.items()}
    frozen = convert_variables_to_constants_v2(
        concrete, lower_control_flow=False, aggressive_inlining=True
    )
    # The order of the outputs stays; what they are called does not.
    places = {tensor.name: place for place, tensor in enumerate(concrete.outputs)}
    order = sorted(outputs, key=lambda name: places[outputs[name]])
    names = dict(zip(order, (tensor.name for tensor in frozen.outputs), strict=True))
    inputs = [tensor.name for tensor in frozen.inputs]
    graph_def = frozen.graph.as_graph_def(add_shapes=True)
    for node in graph_def.node:
        node.attr.pop("_XlaMustCompile", None)
    for function in graph_def.library.function:
        for mark in ("_XlaMustCompile", "_noinline"):
            function.attr.pop(mark, None)
    del concrete, frozen
    gc.collect()  # TensorFlow's graphs are full of cycles, and hold several copies of the weights
    graph_def = _inlined(graph_def, [*inputs, *names.values()])
    _rename_functions(graph_def)
    return FrozenGraph(graph_def, inputs, {name: names[name] for name in served.outputs})


def _inlined(graph_def: Any, ends: list[str]) -> Any:
    """A graph with constants folded and functions inlined; the tensors `ends` stay."""
    import tensorflow as tf
    from tensorflow.core.protobuf import config_pb2, meta_graph_pb2
    from tensorflow.python.grappler import tf_optimizer

    config = config_pb2.ConfigProto()
    config.graph_options.infer_shapes = True
    config.graph_options.rewrite_options.optimizers[:] = ["constfold", "function", "dependency"]
    with tf.Graph().as_default():
        tf.import_graph_def(graph_def, name="")
        meta_graph = tf.compat.v1.train.export_meta_graph(graph_def=graph_def)
    kept = meta_graph_pb2.CollectionDef()
    kept.node_list.value.extend(ends)
    meta_graph.collection_def["train_op"].CopyFrom(kept)
    return tf_optimizer.OptimizeGraph(config, meta_graph)


def _rename_functions(graph_def: Any) -> None:
    """Gives the functions that are left, which are those of loops, names of their own.

    TensorFlow keeps them as they were ahead of the inlining, and takes no others of those names.
    """
    from tensorflow.python.framework import ops

    functions = graph_def.library.function
    new = {
        function.signature.name: f"{function.signature.name}_{ops.uid()}" for function in functions
    }
    for function in functions:
        function.signature.name = new[function.signature.name]
    nodes = itertools.chain(graph_def.node, *(function.node_def for function in functions))
    for attribute in itertools.chain.from_iterable(node.attr.values() for node in nodes):
        for called in (attribute.func, *attribute.list.func):
            if called.name in new:
                called.name = new[called.name]
