"""Exports that prove themselves: SavedModel, ONNX and LiteRT.

```python
artifact = ptkeras.export.to_onnx(model, "small.onnx", labels=names)
print(artifact.summary)  # what was written, and how far its answers are from the model's
```

Each file is loaded in its own runtime and compared with the Keras model before it takes its place:
what a runtime refuses, or answers otherwise, is never left behind.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ptkeras.export.artifact import Artifact, ExportError
    from ptkeras.export.litert import to_litert
    from ptkeras.export.loading import load_model
    from ptkeras.export.onnx import to_onnx
    from ptkeras.export.saved_model import to_saved_model
    from ptkeras.export.single_images import onnx_latency
    from ptkeras.export.timing import Timing, benchmark
    from ptkeras.export.verification import Verification, verify

__all__ = [
    "Artifact",
    "ExportError",
    "Timing",
    "Verification",
    "benchmark",
    "load_model",
    "onnx_latency",
    "to_litert",
    "to_onnx",
    "to_saved_model",
    "verify",
]

# Imported when they are asked for: a process that only runs artifacts has no need of Keras.
_HOMES = {
    "Artifact": "artifact",
    "ExportError": "artifact",
    "Timing": "timing",
    "Verification": "verification",
    "benchmark": "timing",
    "load_model": "loading",
    "onnx_latency": "single_images",
    "to_litert": "litert",
    "to_onnx": "onnx",
    "to_saved_model": "saved_model",
    "verify": "verification",
}


if not TYPE_CHECKING:  # a type checker knows the names from above, and reports all others

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module 'ptkeras.export' has no attribute '{name}'")
        value = getattr(importlib.import_module(f"ptkeras.export.{_HOMES[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
