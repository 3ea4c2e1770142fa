"""Artifacts in their own runtimes: TensorFlow's loader, onnxruntime and the LiteRT interpreter."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ptkeras.export.artifact import ExportError, format_of

Arrays = Mapping[str, np.ndarray]


class Runtime(Protocol):
    """A loaded artifact.

    Attributes:
        name: the runtime and its version.
        inputs: shape, with None for open sizes, and NumPy dtype of each input by name.
    """

    name: str
    inputs: dict[str, tuple[tuple[int | None, ...], np.dtype]]

    def __call__(self, feeds: Arrays) -> dict[str, np.ndarray]:
        """Runs one batch: arrays by input name to arrays by output name."""


def load(
    path: str | os.PathLike[str], threads: int | None = None, kind: str | None = None
) -> Runtime:
    """Loads an artifact.

    Args:
        path: the file or folder.
        threads: how many threads it may compute with, None for the runtime's own choice. In
            TensorFlow that can only be said once in a process.
        kind: "onnx", "saved_model" or "litert", None to tell by the name.

    Raises:
        ExportError: the runtime is not installed, or refuses the artifact.
    """
    kind = kind or format_of(path)
    try:
        return _RUNTIMES[kind](Path(path), threads)
    except ImportError as error:
        raise ExportError(f"{error.name} is not installed: pip install {error.name}.") from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # a file that cannot be read; TensorFlow has OSErrors for all sorts of things
        raise ExportError(f"Its runtime refuses '{path}': {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """The first line of what an error says of itself, or its name."""
    lines = re.sub(r"\x1b\[\d*m", "", str(error)).splitlines()  # Keras writes in bold
    lines = [line.strip() for line in lines if line.strip()]
    lines = [line for line in lines if not line.startswith("Exception encountered when")]
    text = lines[0] if lines else type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."


class _Onnx:
    def __init__(self, path: Path, threads: int | None) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if threads:
            options.intra_op_num_threads = threads
            options.inter_op_num_threads = 1
        self.name = f"onnxruntime {onnxruntime.__version__}"
        self._session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        self._outputs = [output.name for output in self._session.get_outputs()]
        self.inputs = {
            port.name: (_open(port.shape), _dtype(port.type)) for port in self._session.get_inputs()
        }

    def __call__(self, feeds: Arrays) -> dict[str, np.ndarray]:
        fitting = {name: _as(feeds[name], dtype) for name, (_, dtype) in self.inputs.items()}
        return dict(zip(self._outputs, self._session.run(None, fitting), strict=True))


class _SavedModel:
    def __init__(self, path: Path, threads: int | None) -> None:
        import tensorflow as tf

        if threads:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(1)
        self.name = f"TensorFlow {tf.__version__}"
        self._loaded = tf.saved_model.load(str(path))  # the signature alone does not keep it alive
        self._run = self._loaded.signatures["serving_default"]
        _, named = self._run.structured_input_signature
        self._types = {name: spec.dtype for name, spec in named.items()}
        self.inputs = {
            name: (tuple(spec.shape), np.dtype(spec.dtype.as_numpy_dtype))
            for name, spec in named.items()
        }
        self._constant = tf.constant

    def __call__(self, feeds: Arrays) -> dict[str, np.ndarray]:
        values = {name: self._constant(feeds[name], dtype) for name, dtype in self._types.items()}
        return {name: value.numpy() for name, value in self._run(**values).items()}


class _LiteRT:
    def __init__(self, path: Path, threads: int | None) -> None:
        interpreter, self.name = _interpreter()
        # Read here: the interpreter says no more of a file that it cannot open than that.
        self._interpreter = interpreter(model_content=path.read_bytes(), num_threads=threads)
        runner = self._interpreter.get_signature_runner("serving_default")
        self._inputs = runner.get_input_details()
        self._outputs = runner.get_output_details()
        self.inputs = {
            name: (_open(list(detail["shape_signature"])), np.dtype(detail["dtype"]))
            for name, detail in self._inputs.items()
        }
        self._shapes: dict[str, tuple[int, ...]] = {}

    def __call__(self, feeds: Arrays) -> dict[str, np.ndarray]:
        shapes = {name: np.shape(feeds[name]) for name in self.inputs}
        if shapes != self._shapes:
            for name, shape in shapes.items():
                self._interpreter.resize_tensor_input(self._inputs[name]["index"], shape)
            self._interpreter.allocate_tensors()
            self._shapes = shapes
        for name, (_, dtype) in self.inputs.items():
            self._interpreter.set_tensor(self._inputs[name]["index"], _as(feeds[name], dtype))
        self._interpreter.invoke()
        return {
            name: self._interpreter.get_tensor(detail["index"])
            for name, detail in self._outputs.items()
        }


_RUNTIMES: dict[str, Callable[[Path, int | None], Runtime]] = {
    "onnx": _Onnx,
    "saved_model": _SavedModel,
    "litert": _LiteRT,
}


def _interpreter() -> tuple[Any, str]:
    """The interpreter of LiteRT's own package, or the same one out of TensorFlow."""
    try:
        from ai_edge_litert import interpreter

        return interpreter.Interpreter, "LiteRT"
    except ImportError:
        import tensorflow as tf

    def quiet(**arguments: Any) -> Any:
        with warnings.catch_warnings():  # TensorFlow's is deprecated, and the only one here
            warnings.simplefilter("ignore")
            return tf.lite.Interpreter(**arguments)

    return quiet, f"LiteRT of TensorFlow {tf.__version__}"


def _open(shape: Any) -> tuple[int | None, ...]:
    return tuple(size if isinstance(size, int) and size >= 0 else None for size in map(_int, shape))


def _int(size: Any) -> Any:
    return int(size) if isinstance(size, np.integer) else size


def _dtype(onnx_type: str) -> np.dtype:
    names = {"float": "float32", "double": "float64"}
    inner = onnx_type.removeprefix("tensor(").removesuffix(")")
    return np.dtype(names.get(inner, inner))


def _as(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    return np.ascontiguousarray(array, dtype)
