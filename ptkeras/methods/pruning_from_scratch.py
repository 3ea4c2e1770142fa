"""Pruning from Scratch (Wang et al., AAAI 2020, arXiv 1909.12579)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ptkeras.methods.method import Method, Start
from ptkeras.runs.schema import Field, is_number
from ptkeras.utils.flagging import COUNT, POSITIVE, SWITCH, Flag, Parser
from ptkeras.utils.text import whole

if TYPE_CHECKING:
    import keras

    from ptkeras.data import Dataset
    from ptkeras.runs.run_folder import RunFolder
    from ptkeras.utils.flagging import Settings

_PART = Parser(float, "over 0 and at most 1", lambda x: 0 < x <= 1)
_FACTOR = Parser(float, "a number from 0", lambda x: 0 <= x < math.inf)
_EXPANSION = Parser(float, "from 1 and under 16", lambda x: 1 <= x < 16)

_FLAGS = {
    "Pruning from Scratch": (
        Flag(
            "flops_budget",
            0.5,
            _PART,
            "Share of the network's inference FLOPs that the structure is to have.",
        ),
        Flag(
            "budget_training",
            False,
            SWITCH,
            "Whether --epochs, and the drops with them, grow until the small network has taken "
            "the FLOPs that the dense one would take to train.",
        ),
        Flag("sparsity_ratio", 0.5, _PART, "Share of the channel gates that are to be open, r."),
        Flag("balance_factor", 0.5, _FACTOR, "Weight of (mean gate - r)^2 in the gates' loss."),
        Flag(
            "channel_expansion",
            1.25,
            _EXPANSION,
            "How much wider than the network the one is that is searched.",
        ),
        Flag(
            "gate_epochs",
            10,
            COUNT,
            "Epochs to learn the gates for, on nine tenths of the training images; a tenth, "
            "5,000 of CIFAR-10, judges them.",
        ),
        Flag("gate_batch_size", 128, COUNT, "Images in a step of that."),
        Flag("gate_learning_rate", 0.01, POSITIVE, "Learning rate of Adam for the gates."),
    ),
}


class PruningFromScratch(Method):
    """Learns channel gates before the training, and trains the structure that they leave."""

    name = "pruning_from_scratch"
    flags = _FLAGS
    fields = (
        Field("search_seconds", is_number, "… of the search", whole, after="seconds"),
        Field("search_flops", is_number),
    )

    def start(
        self, settings: Settings, dataset: Dataset, model: keras.Model, folder: RunFolder
    ) -> Start:
        """Learns the gates, unless the run has done so before, and builds what they leave."""
        from ptkeras.methods.callbacks import pruning_from_scratch

        return pruning_from_scratch.start(settings, dataset, model, folder)

    def figures(self, result: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the seconds with those of the search."""
        return {"seconds": result["seconds"] + result.get("search_seconds", 0.0)}


METHOD = PruningFromScratch()
