"""SkipNet (Wang et al., ECCV 2018, arXiv 1711.09485)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from ptkeras.methods.method import Method, Start
from ptkeras.runs.schema import (
    Field,
    by_name,
    is_number,
    is_pair,
    is_share,
    is_whole,
    list_of,
)
from ptkeras.utils.flagging import COUNT, POSITIVE, Flag, Parser, choice
from ptkeras.utils.text import large, milliseconds, percent

if TYPE_CHECKING:
    import keras

    from ptkeras.data import Dataset
    from ptkeras.report.runs import Run
    from ptkeras.runs.run_folder import RunFolder
    from ptkeras.utils.flagging import Settings

_FACTOR = Parser(float, "a number from 0", lambda x: 0 <= x < math.inf)
_DISCOUNT = Parser(float, "from 0 to 1", lambda x: 0 <= x <= 1)


def _is_gates(value: Any) -> bool:
    return list_of(is_whole, 2)(value) and value[1] <= value[0]


def _is_counts(value: Any) -> bool:
    # No network has more blocks than four digits say, and a plot has no room for them.
    return by_name(is_share)(value) and all(re.fullmatch(r"[0-9]{1,4}", key) for key in value)


_FLAGS = {
    "SkipNet": (
        Flag(
            "gate",
            "rnn",
            choice("ffgate1", "ffgate2", "rnn"),
            "What decides on a residual block: ffgate1, two convolutions; ffgate2, one; or "
            "rnn, an LSTM that all blocks share.",
        ),
        Flag(
            "gates",
            "hard",
            choice("hard", "soft"),
            "What branches are multiplied by in supervised pre-training: hard, 0 or 1; or "
            "soft, the probability.",
        ),
        Flag("alpha", 0.1, _FACTOR, "Reward for an image that skips all residual blocks."),
        Flag(
            "gamma", 1.0, _DISCOUNT, "Discount of what later gates are rewarded for, and the loss."
        ),
        Flag(
            "rl_weight",
            0.1,
            POSITIVE,
            "Weight of the gates' rewards beside the loss, a mean over the images of a batch.",
        ),
        Flag(
            "rl_epochs",
            20,
            COUNT,
            "Epochs of hybrid reinforcement learning, behind --epochs of supervised pre-training.",
        ),
        Flag("rl_learning_rate", 0.01, POSITIVE, "Learning rate of reinforcement learning."),
        Flag(
            "pretraining_epochs",
            10,
            COUNT,
            "With static_dynamic, which trains --epochs with open gates first, the epochs of "
            "supervised pre-training behind those.",
        ),
    ),
}


class SkipNet(Method):
    """Trains a network with gates: by its loss, and then by reinforcement too."""

    name = "skipnet"
    flags: ClassVar[Mapping[str, tuple[Flag, ...]]] = _FLAGS
    columns = ("blocks_run",)
    fields: ClassVar[tuple[Field, ...]] = (
        Field(
            "mean_inference_flops",
            is_number,
            "… of an image, in mean",
            large,
            after="inference_flops",
            dense="inference_flops",
        ),
        Field("blocks_run", is_share, "residual branches run", percent, after="inference_flops"),
        Field(
            "milliseconds_keras",
            is_pair,
            "ms of an image, Keras",
            milliseconds,
            after="inference_flops",
        ),
        Field(
            "milliseconds_onnxruntime",
            is_pair,
            "ms of an image, onnxruntime",
            milliseconds,
            after="inference_flops",
        ),
        Field("blocks_run_by_block", by_name(is_share)),
        Field("images_by_blocks_run", _is_counts),
        Field("blocks_run_by_class", by_name(is_share)),
        Field("gates", _is_gates),
        Field("flops_quartiles", list_of(is_number, 5)),
    )

    def start(
        self, settings: Settings, dataset: Dataset, model: keras.Model, folder: RunFolder
    ) -> Start:
        """Puts gates on the network, which trains for `rl_epochs` longer."""
        from ptkeras import skipnet
        from ptkeras.methods.callbacks.skipnet import Gates

        gates = Gates(settings, dataset)
        epochs = settings.epochs + settings.rl_epochs
        network = skipnet.add_gates(model, settings.gate)
        return Start(network, [gates], epochs, finish=gates.finish, result=gates.result)

    def stages(self, flags: Mapping[str, str]) -> dict[str, int]:
        """Returns the stages of the training, and the epochs of each."""
        return {
            "supervised pre-training": int(flags["epochs"]),
            "hybrid reinforcement learning": int(flags["rl_epochs"]),
        }

    def figures(self, result: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the inference FLOPs of the test images in mean."""
        dense, now = result["inference_flops"]
        return {"inference_flops": [dense, result.get("mean_inference_flops", now)]}

    def sections(self, run: Run) -> Iterable[str]:
        """Returns what the gates decide, and what was removed."""
        from ptkeras.methods.pages import gates

        yield from gates.sections(run)
        yield from super().sections(run)


METHOD = SkipNet()
