"""Reading a .keras file that may be anything."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import keras

from ptkeras.export.artifact import ExportError
from ptkeras.export.runtimes import first_line


def load_model(path: str | os.PathLike[str]) -> keras.Model:
    """Loads a model to export it: without its optimiser, and in Keras's safe mode.

    Args:
        path: a .keras file.

    Returns:
        The model, not compiled.

    Raises:
        ExportError: the file is missing, truncated or no model, holds code of its own (a Lambda
            layer), or layers that are not known here.
    """
    import ptkeras.regularizers
    import ptkeras.skipnet  # noqa: F401  (both let Keras know their classes)

    path = Path(path)
    if not path.exists():
        raise ExportError(f"The model '{path}' is not there.")
    if path.is_dir():
        raise ExportError(f"The model '{path}' is a folder; name a .keras file.")
    if path.suffix != ".keras":
        raise ExportError(f"The model '{path}' is no .keras file; save it with model.save.")
    if not zipfile.is_zipfile(path):
        raise ExportError(f"The model '{path}' is truncated or no .keras file.")
    try:
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        text = str(error)
        if "ambda" in text and ("unsafe" in text or "safe_mode" in text):
            raise ExportError(
                f"The model '{path}' has a Lambda layer, whose code would run here, and is refused;"
                " if you trust it, load it yourself with safe_mode=False and call ptkeras.export."
            ) from error
        raise ExportError(f"The model '{path}' cannot be loaded: {first_line(error)}") from error
