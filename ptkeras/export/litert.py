"""LiteRT, which was TensorFlow Lite."""

from __future__ import annotations

import os
import re
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ptkeras.export import exporting
from ptkeras.export.artifact import Artifact, ExportError
from ptkeras.export.exporting import Request
from ptkeras.export.onnx import _floats, _quiet
from ptkeras.export.quantising import batches
from ptkeras.export.served import Served, Serving


def to_litert(
    model: keras.Model,
    path: str | os.PathLike[str],
    *,
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
    """Writes a model for LiteRT, and proves that its interpreter gives the model's answers.

    ```python
    ptkeras.export.to_litert(model, "small.tflite", precision="int8", calibration=images[:256])
    ```

    The file has LiteRT's own operations alone, so that it runs on every device, and one signature,
    `serving_default`, with the inputs and outputs by name. A model that computes in half precision
    is written in float32, with the same weights. What ONNX keeps as metadata is in the entry
    "ptkeras" of the file's metadata, as JSON.

    Args:
        model: a built model of any kind; it is not changed.
        path: the file to write, ending in `.tflite`. One that is there is replaced as a whole.
        precision: "float32"; "float16", for the weights, which is half the size; or "int8": weights
            by output channel and activations by tensor, with the ranges seen on `calibration`.
            Inputs and outputs stay float32.
        calibration: examples for "int8": an array, or arrays in the structure of the model's inputs
            or by input name; some hundreds are enough.
        softmax: whether to put a softmax behind each output.
        mean: what to subtract from each channel of the only input, before anything else.
        std: what to divide each channel by then, so that the artifact takes raw pixels.
        labels: the name of each class, kept in the metadata.
        input_shape: the shape of one example, for sizes that the model leaves open; with several
            inputs, shapes by input name.
        batch_size: the only batch size that the artifact takes; None for any.
        metadata: more to keep: text, or what JSON can hold, by name.
        check: whether to verify the file, as `to_onnx` does its own.

    Returns:
        What was written.

    Raises:
        ExportError: the model cannot be converted (as one that draws random numbers or keeps a
            state from call to call), the interpreter refuses the file, it answers otherwise, or it
            cannot be written; nothing is left behind.
        ValueError: an argument is out of range or does not fit the model.
    """
    serving = Serving(softmax, _floats(mean), _floats(std), input_shape, batch_size)
    request = exporting.request_of(
        "litert",
        model,
        path,
        serving,
        precision=precision,
        calibration=calibration,
        labels=labels,
        metadata=metadata,
        check=check,
    )
    return exporting.export(request, write)


def write(served: Served, request: Request, path: Path) -> None:
    """Converts a model and writes the file; runs with Keras's TensorFlow backend."""
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder, _quiet():
        _save_flat(served, folder)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        if request.precision != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if request.precision == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if request.precision == "int8":
            feeds = served.feeds(request.calibration)
            size = served.inputs[0].shape[0] or 1
            converter.representative_dataset = lambda: batches(feeds, size)
        try:
            content = converter.convert()
        except Exception as error:
            raise _explained(error, request.model.name) from error
    path.write_bytes(_described(content, request.metadata))


def _explained(error: Exception, name: str) -> Exception:
    """What the converter's pages of compiler messages come down to, where that is known."""
    text = str(error)
    if "TensorList" in text:
        return ExportError(
            f"LiteRT runs the recurrent layers of '{name}' at one batch size alone: give "
            "batch_size."
        )
    lacking = re.search(r"(?:TF Select|Custom) ops: (.+)", text)
    if lacking is None:
        return error
    return ExportError(
        f"LiteRT has no operations for {lacking[1]} with the dtypes and sizes that they have in "
        f"'{name}'; where sizes are open, input_shape fixes them."
    )


def _save_flat(served: Served, folder: str) -> None:
    """Saves the flat graph of a model, with its signature, for the converter to read."""
    import tensorflow as tf

    from ptkeras.export.tensorflow_graph import freeze

    frozen = freeze(served)
    signature = [tf.TensorSpec(port.shape, port.dtype, port.name) for port in served.inputs]

    def serve(*tensors: Any) -> dict[str, Any]:
        given = dict(zip(frozen.inputs, tensors, strict=True))
        wanted = list(frozen.outputs.values())
        results = tf.import_graph_def(frozen.graph_def, given, wanted, name="")
        return dict(zip(frozen.outputs, results, strict=True))

    module = tf.Module()
    module.serve = tf.function(serve, input_signature=signature, autograph=False)
    tf.saved_model.save(module, folder, signatures=module.serve)


def _described(content: bytes, metadata: Mapping[str, str]) -> bytes:
    """The file with its metadata in it, in an entry of its own."""
    import json

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tensorflow.lite.python import schema_py_generated as schema
        from tensorflow.lite.tools import flatbuffer_utils

        model = flatbuffer_utils.convert_bytearray_to_object(bytearray(content))
        buffer, entry = schema.BufferT(), schema.MetadataT()
        buffer.data = np.frombuffer(json.dumps(dict(metadata)).encode(), np.uint8)
        entry.name, entry.buffer = "ptkeras", len(model.buffers)
        model.buffers.append(buffer)
        model.metadata = [*(model.metadata or []), entry]
        return bytes(flatbuffer_utils.convert_object_to_bytearray(model))
