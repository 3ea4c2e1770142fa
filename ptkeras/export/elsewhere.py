"""Converting with TensorFlow in a process of its own, for models of Keras's other backends.

All three formats are reached by way of TensorFlow. The model is saved to a folder, converted by a
process whose backend is TensorFlow, and verified here, against the model as this backend runs it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ptkeras.export.artifact import ExportError
from ptkeras.export.served import Served

if TYPE_CHECKING:
    from ptkeras.export.exporting import Request


def convert(request: Request, path: Path) -> None:
    """Converts a model in another process.

    Raises:
        ExportError: it cannot be saved, or not be converted there.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        request.model.save(folder / "model.keras")
        feeds: dict[str, np.ndarray] = {}
        if request.calibration is not None:
            feeds = Served(request.model, request.serving).feeds(request.calibration)
            # In order: by name, an input called "file" would be taken for the file.
            np.savez(folder / "calibration.npz", *feeds.values())
        asked = {
            "kind": request.kind,
            "path": str(path.absolute()),
            "serving": vars(request.serving),
            "precision": request.precision,
            "calibration": list(feeds),
            "metadata": dict(request.metadata),
            "check": request.check,
            "options": dict(request.options),
        }
        (folder / "request.json").write_text(json.dumps(asked))
        environment = os.environ | {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
        environment["PYTHONPATH"] = os.pathsep.join(
            [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
        )
        done = subprocess.run(
            [sys.executable, "-m", "ptkeras.export.conversion", name],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        told = folder / "error.txt"
        if told.exists():
            raise ExportError(told.read_text())
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
            raise ExportError(f"The process that converts with TensorFlow failed: {lines[-1]}")
