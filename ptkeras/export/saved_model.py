"""TensorFlow's SavedModel."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from ptkeras.export import exporting
from ptkeras.export.artifact import Artifact, ExportError
from ptkeras.export.exporting import Request
from ptkeras.export.onnx import _floats
from ptkeras.export.served import Served, Serving

# TensorFlow leaves what lies in this folder alone; it is where others may put files of their own.
METADATA = Path("assets.extra", "metadata.json")


def to_saved_model(
    model: keras.Model,
    path: str | os.PathLike[str],
    *,
    softmax: bool = False,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    labels: Sequence[str] | None = None,
    input_shape: Any = None,
    batch_size: int | None = None,
    metadata: Mapping[str, Any] | None = None,
    check: bool = True,
) -> Artifact:
    """Writes a model as a SavedModel, and proves that TensorFlow gives the model's answers.

    ```python
    ptkeras.export.to_saved_model(model, "small")
    answer = tf.saved_model.load("small").signatures["serving_default"](images=images)
    ```

    The signature `serving_default` has the inputs and outputs by name; it computes in the precision
    that the model computes in. What ONNX keeps as metadata is in `assets.extra/metadata.json`.
    A state that the model keeps from one call to the next, as stateful recurrent layers do, the
    SavedModel keeps too, from where the model's is. A model that draws random numbers at inference
    can only be written with check=False.

    Args:
        model: a built model of any kind; it is not changed.
        path: the folder to write. A SavedModel that is there is replaced as a whole.
        softmax: whether to put a softmax behind each output.
        mean: what to subtract from each channel of the only input, before anything else.
        std: what to divide each channel by then, so that the artifact takes raw pixels.
        labels: the name of each class, kept in the metadata.
        input_shape: the shape of one example, for sizes that the model leaves open; with several
            inputs, shapes by input name.
        batch_size: the only batch size that the artifact takes; None for any.
        metadata: more to keep: text, or what JSON can hold, by name.
        check: whether to verify the folder, as `to_onnx` does its file.

    Returns:
        What was written.

    Raises:
        ExportError: the model cannot be converted, TensorFlow refuses the folder, it answers
            otherwise, or it cannot be written; nothing is left behind.
        ValueError: an argument is out of range or does not fit the model.
    """
    serving = Serving(softmax, _floats(mean), _floats(std), input_shape, batch_size)
    request = exporting.request_of(
        "saved_model", model, path, serving, labels=labels, metadata=metadata, check=check
    )
    return exporting.export(request, write)


def write(served: Served, request: Request, path: Path) -> None:
    """Converts a model and fills the folder; runs with Keras's TensorFlow backend."""
    from ptkeras.export.tracing import check_memory, function_with_writes, trace

    # Not `archive.track`: what endpoints use is tracked anyway, and its weights are saved twice.
    archive = keras.export.ExportArchive()
    traced = trace(served)
    check_memory(served.model, traced.remembered, state=False, seeds=request.check)
    _check_graph(traced.concrete.graph.as_graph_def(), request.model.name)
    function = function_with_writes(served) if traced.remembered else traced.function
    # The first endpoint is `serving_default` too; "serve" is the one that Keras's TFSMLayer calls.
    archive.add_endpoint("serve", function)
    archive.write_out(str(path), verbose=False)
    described = path / METADATA
    described.parent.mkdir()
    text = json.dumps(request.metadata, indent=1, ensure_ascii=False)
    described.write_text(text + "\n", encoding="utf-8")


def _check_graph(graph_def: Any, name: str) -> None:
    """Refuses calls of Python functions, which run in this process and load in no other one."""
    inner = (function.node_def for function in graph_def.library.function)
    called = {node.op for node in itertools.chain(graph_def.node, *inner)}
    if called & {"PyFunc", "PyFuncStateless", "EagerPyFunc"}:
        raise ExportError(
            f"'{name}' calls Python functions (tf.numpy_function or tf.py_function), which a "
            "SavedModel cannot hold; write them with keras.ops or TensorFlow's operations."
        )
