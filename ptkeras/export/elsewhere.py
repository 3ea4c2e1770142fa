"""Converting with TensorFlow in a process of its own, for models of Keras's other backends.

    python -m ptkeras.export.elsewhere FOLDER

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

import keras
import numpy as np

from ptkeras.export.artifact import ExportError
from ptkeras.export.exporting import Request
from ptkeras.export.served import Served, Serving


def convert(request: Request, path: Path) -> None:
    """Converts a model in another process.

    Raises:
        ExportError: it cannot be saved, or not be converted there.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        request.model.save(folder / "model.keras")
        if request.calibration is not None:
            feeds = Served(request.model, request.serving).feeds(request.calibration)
            np.savez(folder / "calibration.npz", **feeds)
        asked = {
            "kind": request.kind,
            "path": str(path.absolute()),
            "serving": vars(request.serving),
            "precision": request.precision,
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
            [sys.executable, "-m", "ptkeras.export.elsewhere", name],
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


def main(folder: Path) -> None:
    """Converts what `convert` has put into a folder."""
    import ptkeras.skipnet  # noqa: F401  (lets Keras know its layers)
    from ptkeras.export import litert, onnx, saved_model
    from ptkeras.export.runtimes import first_line

    asked = json.loads((folder / "request.json").read_text())
    serving = Serving(**{k: _tuple(v) for k, v in asked["serving"].items()})
    calibration = None
    if (folder / "calibration.npz").exists():
        with np.load(folder / "calibration.npz", allow_pickle=False) as archive:
            calibration = dict(archive)
    path = Path(asked["path"])
    try:
        # The file comes from the process that started this one: a Lambda may be made from it.
        model = keras.models.load_model(folder / "model.keras", compile=False, safe_mode=False)
        request = Request(
            asked["kind"],
            path,
            model,
            serving,
            asked["precision"],
            calibration,
            asked["metadata"],
            asked["check"],
            asked["options"],
        )
        writers = {"onnx": onnx, "litert": litert, "saved_model": saved_model}
        served = Served(model, serving)
        exported = served if request.kind == "saved_model" else served.in_float32()
        writers[request.kind].write(exported, request, path)
    except Exception as error:
        (folder / "error.txt").write_text(
            f"'{asked['metadata'].get('name', 'The model')}' could not be converted with "
            f"TensorFlow: {first_line(error)}"
        )


def _tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


if __name__ == "__main__":
    main(Path(sys.argv[1]))
