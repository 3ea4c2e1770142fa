"""ONNX: converted by tf2onnx, then named, folded, described and checked."""

from __future__ import annotations

import contextlib
import gc
import logging
import numbers
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from ptkeras.channels.graph import is_graph
from ptkeras.export import conditional, exporting, folding
from ptkeras.export.artifact import Artifact, ExportError
from ptkeras.export.exporting import Request
from ptkeras.export.served import Served, Serving
from ptkeras.keras_compat.nodes import maker_of
from ptkeras.version import __version__

OPSETS = range(13, 19)
OPSET = 17


def to_onnx(
    model: keras.Model,
    path: str | os.PathLike[str],
    *,
    opset: int = OPSET,
    precision: str = "float32",
    calibration: Any = None,
    softmax: bool = False,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    labels: Sequence[str] | None = None,
    input_shape: Any = None,
    batch_size: int | None = None,
    metadata: Mapping[str, Any] | None = None,
    check: bool = True,
) -> Artifact:
    """Writes a model as ONNX, and proves that onnxruntime gives the model's answers.

    ```python
    ptkeras.export.to_onnx(model, "small.onnx", labels=["cat", "dog"])
    ```

    Inputs and outputs have the names of the model's, or their keys in its dictionaries; the batch
    size is open. Batch normalisation is folded into the convolution or dense layer before it where
    nothing else reads that, in float64. The file passes `onnx.checker` with full shape inference,
    and carries as `metadata_props` the versions, the number of parameters, the inference FLOPs, the
    labels and `metadata`. A model that computes in half precision is written in float32, with the
    same weights, since onnxruntime lacks such operations on a CPU.

    Args:
        model: a built model of any kind; it is not changed.
        path: the file to write, ending in `.onnx`. One that is there is replaced as a whole.
        opset: the version of ONNX's operations, 13 to 18.
        precision: "float32"; "float16", with inputs and outputs in float32; or "int8": weights by
            output channel and activations by tensor, between QuantizeLinear and DequantizeLinear
            nodes, with the ranges seen on `calibration` (post-training static quantisation).
        calibration: examples for "int8": an array, or arrays in the structure of the model's inputs
            or by input name; some hundreds are enough.
        softmax: whether to put a softmax behind each output.
        mean: what to subtract from each channel of the only input, before anything else.
        std: what to divide each channel by then, so that the artifact takes raw pixels.
        labels: the name of each class, kept in the metadata as JSON.
        input_shape: the shape of one example, for sizes that the model leaves open; with several
            inputs, shapes by input name.
        batch_size: the only batch size that the artifact takes; None for any.
        metadata: more to keep: text, or what JSON can hold, by name.
        check: whether to verify the file, at batch 1 and 3, on random inputs, and for "int8" on the
            calibration examples. The largest difference that passes, over the largest output, is
            1e-4, for float16 1e-2, for bfloat16 models 5e-2, and for int8 5e-1 with nine top
            classes in ten the same.

    Returns:
        What was written.

    Raises:
        ExportError: the model cannot be converted (as one that draws random numbers or keeps a
            state from call to call), onnxruntime refuses the file, it answers otherwise, or it
            cannot be written; nothing is left behind.
        ValueError: an argument is out of range or does not fit the model.
    """
    if not isinstance(opset, numbers.Integral) or opset not in OPSETS:
        raise ValueError(f"opset must be from {OPSETS[0]} to {OPSETS[-1]}; received {opset!r}.")
    serving = Serving(softmax, _floats(mean), _floats(std), input_shape, batch_size)
    request = exporting.request_of(
        "onnx",
        model,
        path,
        serving,
        precision=precision,
        calibration=calibration,
        labels=labels,
        metadata=metadata,
        check=check,
        options={"opset": opset},
    )
    return exporting.export(request, write)


def write(served: Served, request: Request, path: Path) -> None:
    """Converts a model and writes the file; runs with Keras's TensorFlow backend."""
    import onnx

    proto = convert(served, request.options["opset"])
    if request.precision == "float16":
        proto = _in_float16(proto)
    elif request.precision == "int8":
        if conditional.blocks_of(proto.graph):
            raise ExportError(
                f"'{served.model.name}' has gates, and in int8 what they skip would be computed: "
                "export it in float32 or float16, or without gates (ptkeras.skipnet.remove_gates)."
            )
        from ptkeras.export import quantising

        with _quiet():
            feeds = served.feeds(request.calibration)
            proto = quantising.quantise(proto, feeds, served.inputs[0].shape[0])
    _branch_off(proto, served.model)
    _describe(proto, served, request.metadata)
    _check(proto)
    onnx.save(proto, path)


def _branch_off(proto: Any, model: keras.Model) -> None:
    """Puts what gates may skip into conditionals, all of it: who exports gates wants them to."""
    from ptkeras.skipnet.blocks import gated_blocks

    blocks = gated_blocks(model) if is_graph(model) else []
    deciders = [maker_of(block.decision) for block in blocks]
    gates = sum(getattr(op, "mode", "hard") != "open" for op in deciders)
    found = conditional.branch_off(proto)
    if found < gates:
        raise ExportError(
            f"'{model.name}' has {gates} gates, of which {gates - found} would skip nothing, since "
            "their blocks are not found in what it was converted to: export it with another batch "
            "size, or without gates (ptkeras.skipnet.remove_gates)."
        )


def convert(served: Served, opset: int) -> Any:
    """The ONNX model of a Keras model: named, folded, and with an open batch size."""
    import onnx

    from ptkeras.export.tensorflow_graph import freeze

    frozen = freeze(served)
    renamed = dict(zip(frozen.inputs, (port.name for port in served.inputs), strict=True))
    renamed |= {tensor: name for name, tensor in frozen.outputs.items()}
    with _quiet():
        proto = _converted(frozen, opset, renamed, served.model.name)
    _say_that_pools_do_not_pad(proto.graph)
    _name_sizes(proto.graph, served)
    proto = onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True)
    folding.fold(proto.graph)
    return proto


def _converted(frozen: Any, opset: int, renamed: dict[str, str], name: str) -> Any:
    from ptkeras.keras_compat.export import patch_tf2onnx

    patch_tf2onnx()  # NumPy 2
    try:
        return _optimised(frozen, opset, renamed, name, careful=False)
    except Exception:
        # One of tf2onnx's optimisers fails; once more, and from the start, without those that do.
        return _optimised(frozen, opset, renamed, name, careful=True)


def _optimised(
    frozen: Any, opset: int, renamed: dict[str, str], name: str, *, careful: bool
) -> Any:
    """What tf2onnx makes of a graph; if `careful`, with a copy ahead of each optimiser (slow)."""
    import tensorflow as tf
    from tf2onnx import optimizer, tfonnx

    with tf.Graph().as_default() as graph:
        tf.import_graph_def(frozen.graph_def, name="")
        converted = tfonnx.process_tf_graph(
            graph,
            opset=opset,
            input_names=frozen.inputs,
            output_names=list(frozen.outputs.values()),
            tensors_to_rename=renamed,
            custom_op_handlers={"Erfc": (_erfc, []), "Expm1": (_expm1, [])},
        )
        gc.collect()  # graphs are full of cycles, and hold copies of the weights
        if not careful:
            # Each optimiser ends with this, and protobuf keeps the memory of what was there before:
            # some sixty copies of all weights. make_model does it once more, which is enough.
            converted.update_proto = lambda *_, **__: None
        converted = optimizer.optimize_graph(converted, catch_errors=careful)
        vars(converted).pop("update_proto", None)
    return converted.make_model(name)


def _in_float16(proto: Any) -> Any:
    """The model in float16, but for its inputs and outputs."""
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    with _quiet():
        half = OnnxModel(convert_float_to_float16(proto, keep_io_types=True))
        half.topological_sort()  # its casts of the inputs come last
    return half.model


def _erfc(graph: Any, node: Any, _name: str, _arguments: Any) -> None:
    """erfc(x) = 1 - erf(x): Keras's exact GELU has the one, and ONNX the other."""
    _renamed(graph, node, "Erf", lambda one, result: [one, result])


def _expm1(graph: Any, node: Any, _name: str, _arguments: Any) -> None:
    """expm1(x) = exp(x) - 1, as CELU has it."""
    _renamed(graph, node, "Exp", lambda one, result: [result, one])


def _renamed(graph: Any, node: Any, kind: str, difference: Callable) -> None:
    """Makes an operation of ONNX of a node, and a difference between that and 1 behind it."""
    import numpy as np
    from tf2onnx import utils

    dtype = utils.map_onnx_to_numpy_type(graph.get_dtype(node.output[0]))
    node.type = kind
    one = graph.make_const(utils.make_name("one"), np.array(1, dtype))
    result = graph.insert_new_node_on_output(
        "Sub",
        node.output[0],
        name=utils.make_name(node.name),
        inputs=difference(one.output[0], node.output[0]),
    )
    graph.copy_shape(node.output[0], result.output[0])
    graph.set_dtype(result.output[0], graph.get_dtype(node.output[0]))


def _say_that_pools_do_not_pad(graph: Any) -> None:
    """Writes `auto_pad="VALID"` where a MaxPool leaves it out and does not pad; it means the same.

    onnxruntime 1.31 takes a Pad with zeros ahead of a MaxPool into it, where padding is -∞ and not
    zero, which is another maximum where all else is negative (in ResNet50V2, say). It leaves pools
    alone that say how they pad.
    """
    from onnx import helper

    for node in graph.node:
        named = {attribute.name for attribute in node.attribute}
        if node.op_type == "MaxPool" and named.isdisjoint({"auto_pad", "pads"}):
            node.attribute.append(helper.make_attribute("auto_pad", "VALID"))


def _name_sizes(graph: Any, served: Served) -> None:
    """Names the open sizes: the batch alike everywhere, others by input and axis."""
    del graph.value_info[:]  # its names of open sizes are tf2onnx's, and inference writes it anew
    open_batch = any(port.shape[0] is None for port in served.inputs)
    known = {port.name for port in served.inputs}
    for value in (*graph.input, *graph.output):
        for axis, size in enumerate(value.type.tensor_type.shape.dim):
            if size.WhichOneof("value") == "dim_value" and size.dim_value >= 0:
                continue
            if axis == 0 and open_batch:
                size.dim_param = "batch"
            elif value.name in known:
                size.dim_param = f"{value.name}_{axis}"
            else:
                size.Clear()


def _describe(proto: Any, served: Served, metadata: Mapping[str, str]) -> None:
    import onnx

    proto.producer_name, proto.producer_version = "ptkeras", __version__
    proto.graph.name = served.model.name
    proto.graph.doc_string = proto.doc_string = ""
    used = {node.domain for node in proto.graph.node} | {""}
    kept = [opset for opset in proto.opset_import if opset.domain in used]
    del proto.opset_import[:]
    proto.opset_import.extend(kept)
    onnx.helper.set_model_props(proto, dict(metadata))


def _check(proto: Any) -> None:
    import onnx

    strange = {node.op_type for node in proto.graph.node if node.domain not in ("", "ai.onnx")}
    if strange:
        raise ExportError(f"ONNX has no operations for {', '.join(sorted(strange))}.")
    onnx.checker.check_model(proto, full_check=True)


def _floats(values: Sequence[float] | None) -> tuple[float, ...] | None:
    import numpy as np

    return None if values is None else tuple(float(x) for x in np.atleast_1d(values))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what the converters say about their own insides: where they fail, they raise."""
    loggers = [logging.getLogger(name) for name in ("tf2onnx", None)]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
