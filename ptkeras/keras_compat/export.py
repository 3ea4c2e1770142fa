"""Export to ONNX."""

# tf2onnx 1.17 names types that NumPy 2 has no longer; Keras mends that in the process.
from keras.src.export.tf2onnx_lib import patch_tf2onnx

__all__ = ["patch_tf2onnx"]
