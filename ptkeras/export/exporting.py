"""What all formats have in common: check, convert, verify, and only then put in place."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras

from ptkeras import cost
from ptkeras.channels.leaf_graph import leaf_graph
from ptkeras.export import runtimes
from ptkeras.export.artifact import (
    TITLES,
    Artifact,
    ExportError,
    bytes_on_disk,
    check_output,
    whole,
)
from ptkeras.export.served import Served, Serving, check_model
from ptkeras.export.verification import (
    BATCH_SIZES,
    TOLERANCES,
    Verification,
    compare,
    least_agreement,
    precision_of,
)
from ptkeras.utils.progress import working
from ptkeras.version import __version__

PRECISIONS = ("float32", "float16", "int8")

# onnxruntime counts bytes of a file in 31 bits, as does the protocol buffer that holds it.
_LARGEST = 2**31 - 2**20


@dataclasses.dataclass(frozen=True)
class Request:
    """One export.

    Attributes:
        kind: "onnx", "saved_model" or "litert".
        path: where to.
        model: the Keras model.
        serving: what is asked beside the network itself.
        precision: "float32", "float16" or "int8"; "model" to keep the model's own.
        calibration: examples for int8, or None.
        metadata: text by name.
        check: whether to verify the artifact.
        options: what only one format has.
    """

    kind: str
    path: Path
    model: keras.Model
    serving: Serving
    precision: str
    calibration: Any
    metadata: Mapping[str, str]
    check: bool
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


# (what to export, the request, the path to write to)
Convert = Callable[[Served, Request, Path], None]


def export(request: Request, convert: Convert) -> Artifact:
    """Converts a model, verifies what came out, and puts it in its place.

    Raises:
        ExportError: it could not be converted, written, loaded or verified; nothing is left.
        ValueError: what is asked for does not fit the model.
    """
    check_output(request.path, request.kind)
    served = Served(request.model, request.serving)
    _check_precision(request, served)
    if 4 * request.model.count_params() > _LARGEST and request.kind != "saved_model":
        raise ExportError(
            f"'{request.model.name}' has more than 2 GB of weights, the most that "
            f"{TITLES[request.kind]} holds in a file; export a SavedModel."
        )
    with whole(request.path, request.kind) as new:
        with working(f"Converting '{request.model.name}' to {TITLES[request.kind]}"):
            _convert(request, served, convert, new)
        with working(f"Verifying {TITLES[request.kind]}"):
            report = _verified(request, served, new) if request.check else None
    size = bytes_on_disk(request.path)
    return Artifact(request.path, request.kind, request.precision, size, report)


def figures(model: keras.Model, metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """What an artifact says about itself: what is given, and what can be read from the model."""
    own = {
        "producer": "ptkeras",
        "ptkeras_version": __version__,
        "keras_version": keras.__version__,
        "python_version": platform.python_version(),
        "name": model.name,
        "params": model.count_params(),
    }
    with contextlib.suppress(ValueError):  # sizes that the model leaves open have no FLOPs
        own["inference_flops"] = cost.inference_flops(model)
    return own | dict(metadata or {})


def request_of(
    kind: str,
    model: keras.Model,
    path: str | os.PathLike[str],
    serving: Serving,
    *,
    precision: str = "model",
    calibration: Any = None,
    labels: Any = None,
    metadata: Mapping[str, Any] | None = None,
    check: bool = True,
    options: Mapping[str, Any] | None = None,
) -> Request:
    """Collects the arguments of an export."""
    check_model(model)
    told = figures(model, metadata)
    if labels is not None:
        labels = [str(label) for label in labels]
        classes = leaf_graph(model).outputs[0].shape[-1]
        if len(labels) != classes:
            raise ValueError(
                f"There are {len(labels)} labels for {classes} classes; give one for each."
            )
        told["labels"] = labels
    texts = {key: _text(key, value) for key, value in told.items() if value is not None}
    return Request(
        kind, Path(path), model, serving, precision, calibration, texts, check, options or {}
    )


def _text(key: Any, value: Any) -> str:
    try:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        (key + text).encode()
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"metadata must be text, or what JSON can hold, by name; received {key!r}: {value!r}."
        ) from error
    return text


def _check_precision(request: Request, served: Served) -> None:
    if request.precision not in (*PRECISIONS, "model"):
        raise ValueError(
            f"precision must be one of {', '.join(PRECISIONS)}; received {request.precision!r}."
        )
    if (request.precision == "int8") != (request.calibration is not None):
        raise ValueError(
            "precision 'int8' needs calibration examples, and no other one takes them; received "
            f"precision={request.precision!r} {'without' if request.calibration is None else 'and'}"
            " calibration."
        )
    if request.calibration is not None:
        served.feeds(request.calibration)


def _convert(request: Request, served: Served, convert: Convert, new: Path) -> None:
    half = request.kind != "saved_model"
    try:
        if keras.backend.backend() != "tensorflow":
            from ptkeras.export import elsewhere

            elsewhere.convert(request, new)
        else:
            convert(served.in_float32() if half else served, request, new)
    except (ExportError, OSError):
        raise
    except ImportError as error:
        package = error.name or str(error)
        raise ExportError(f"{package} is not installed: pip install {package}.") from error
    except Exception as error:
        _raise_disk_error(error)
        raise _failed(request, error) from error


def _failed(request: Request, error: Exception) -> ExportError:
    return ExportError(
        f"'{request.model.name}' could not be converted to {TITLES[request.kind]}: "
        f"{runtimes.first_line(error)}"
    )


def _raise_disk_error(error: Exception) -> None:
    """TensorFlow has its own errors for a disk that is full."""
    if "No space left on device" in str(error):
        raise OSError(errno.ENOSPC, "No space left on device") from error


def _verified(request: Request, served: Served, new: Path) -> Verification:
    own = precision_of(request.model)
    asked = own if request.precision == "model" else request.precision
    coarse = max((own, asked), key=lambda precision: TOLERANCES[precision])
    sizes: tuple[int, ...] = BATCH_SIZES
    if request.calibration is not None:
        sizes = (len(next(iter(served.feeds(request.calibration).values()))),)
    try:
        run = runtimes.load(new, kind=request.kind)
        report = compare(
            run, served, request.calibration, sizes, TOLERANCES[coarse], least_agreement(coarse)
        )
    except ExportError as error:
        message = str(error).replace(str(new), str(request.path))
        raise ExportError(f"{message} Nothing was written.") from error
    if not report.passed:
        raise ExportError(
            f"'{request.path}' was not written, since it does not answer as '{request.model.name}' "
            f"does: {report}; {report.allowance} is let pass."
        )
    return report
