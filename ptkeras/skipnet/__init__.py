"""SkipNet: residual networks that skip, image by image, what the image does not need.

Wang et al., "SkipNet: Learning Dynamic Routing in Convolutional Networks", ECCV 2018,
arXiv 1711.09485. A gate on each residual block looks at what enters the block and decides whether
its branch runs. Gates learn with the network by the loss (supervised pre-training), and then by
REINFORCE, with a reward for what is skipped (hybrid reinforcement learning).
"""

import importlib
from typing import TYPE_CHECKING, Any

from ptkeras.skipnet.inference import plain, remove_gates, settle, skipping
from ptkeras.skipnet.latency import keras_latency
from ptkeras.skipnet.layers import Skip, Switch
from ptkeras.skipnet.network import SkipNet, add_gates, policy_loss
from ptkeras.skipnet.routing import Routing, measure

if TYPE_CHECKING:
    from ptkeras.export.single_images import onnx_latency as onnx_latency

__all__ = [
    "Routing",
    "Skip",
    "SkipNet",
    "Switch",
    "add_gates",
    "keras_latency",
    "measure",
    "plain",
    "policy_loss",
    "remove_gates",
    "settle",
    "skipping",
]


if not TYPE_CHECKING:  # a type checker knows the name from above, and reports all others

    def __getattr__(name: str) -> Any:
        if name != "onnx_latency":
            raise AttributeError(f"module 'ptkeras.skipnet' has no attribute '{name}'")
        # Its name up to version 0.1.
        return importlib.import_module("ptkeras.export").onnx_latency
