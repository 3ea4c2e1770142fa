"""Export to ONNX."""

# tf2onnx 1.17 names types that NumPy 2 has no longer; Keras mends that in the process. All of Keras
# 3.12 to 3.15; a tf2onnx for NumPy 2 would make this needless.
from keras.src.export.tf2onnx_lib import patch_tf2onnx

__all__ = ["patch_tf2onnx"]
