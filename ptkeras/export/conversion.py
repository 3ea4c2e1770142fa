"""The process that converts with TensorFlow for models of Keras's other backends.

python -m ptkeras.export.conversion FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np

import ptkeras.skipnet  # noqa: F401  (lets Keras know its layers)
from ptkeras.export import litert, onnx, saved_model
from ptkeras.export.exporting import Request
from ptkeras.export.runtimes import first_line
from ptkeras.export.served import Served, Serving


def main(folder: Path) -> None:
    """Converts what `ptkeras.export.elsewhere` has put into a folder."""
    asked = json.loads((folder / "request.json").read_text())
    serving = Serving(**{k: _tuple(v) for k, v in asked["serving"].items()})
    calibration = None
    if (folder / "calibration.npz").exists():
        with np.load(folder / "calibration.npz", allow_pickle=False) as archive:
            names = enumerate(asked["calibration"])
            calibration = {name: archive[f"arr_{i}"] for i, name in names}
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


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


if __name__ == "__main__":
    main(Path(sys.argv[1]))
