"""Exports that prove themselves: SavedModel, ONNX and LiteRT.

```python
artifact = ptkeras.export.to_onnx(model, "small.onnx", labels=names)
print(artifact)  # what was written, and how far its answers are from the model's
```

Each file is loaded in its own runtime and compared with the Keras model before it takes its place:
what a runtime refuses, or answers otherwise, is never left behind.
"""

from ptkeras.export.artifact import Artifact, ExportError
from ptkeras.export.litert import to_litert
from ptkeras.export.loading import load_model
from ptkeras.export.onnx import to_onnx
from ptkeras.export.saved_model import to_saved_model
from ptkeras.export.verification import Verification, verify

__all__ = [
    "Artifact",
    "ExportError",
    "Verification",
    "load_model",
    "to_litert",
    "to_onnx",
    "to_saved_model",
    "verify",
]
