"""What Pruning from Scratch trains: a search for a structure, and the structure."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from ptkeras import cost
from ptkeras.channels import trace
from ptkeras.from_scratch import Search, learn_gates
from ptkeras.from_scratch.structure import grown
from ptkeras.methods.callbacks.accounts import Accounts
from ptkeras.methods.method import Start
from ptkeras.surgery.fresh import fresh, widen

if TYPE_CHECKING:
    from ptkeras.data import Dataset
    from ptkeras.runs.run_folder import RunFolder
    from ptkeras.utils.flagging import Settings

# Of CIFAR-10 that is 5,000 images, the paper's number.
HELD_OUT = 0.1


def start(settings: Settings, dataset: Dataset, model: keras.Model, folder: RunFolder) -> Start:
    """Learns the gates, unless the run has done so before, and builds what they leave.

    Args:
        settings: the flags of `ptkeras.train`.
        dataset: what the structure is trained with; the gates see the same training images.
        model: the network that is searched.
        folder: the run folder; `search.json` in it has what was found.
    """
    if not folder.search.exists():
        _search(settings, model, folder)
    for path in folder.gates.parent.glob("gates*.keras"):
        path.unlink()  # it is in search.json what they were for
    found = json.loads(folder.search.read_text(encoding="utf-8"))
    keras.utils.set_random_seed(settings.seed)  # the same weights, whether it was searched or read
    wide = trace(widen(model, settings.channel_expansion))
    keep = np.ones(len(wide), bool)
    keep[found["removed"]] = False
    small = fresh(wide, keep)
    epochs, drops = settings.epochs, settings.learning_rate_drops
    if settings.budget_training:
        flops = cost.inference_flops(model), cost.inference_flops(small)
        epochs, *drops = (grown(each, *flops) for each in (epochs, *drops))
    accounts = SearchedAccounts(dataset.num_train, found)
    return Start(small, [accounts], epochs, drops, result=accounts.result)


class SearchedAccounts(Accounts):
    """The accounts of a network that was searched for; the search counts among its training.

    Args:
        examples: the number of examples in an epoch.
        search: what is in `search.json`.
    """

    def __init__(self, examples: int, search: dict[str, Any]) -> None:
        super().__init__(examples, spent=search["flops"])
        self.search = search

    def result(self) -> dict[str, Any]:
        """What the search took."""
        return {"search_seconds": self.search["seconds"], "search_flops": self.search["flops"]}


def _search(settings: Settings, model: keras.Model, folder: RunFolder) -> None:
    from ptkeras import data

    part = data.load(
        settings.dataset,
        batch_size=settings.gate_batch_size,
        data_dir=settings.data_dir,
        seed=settings.seed,
        hold_out=HELD_OUT,
    )
    _check_budget(settings, model)
    folder.open(settings)
    begin = "Going on with the" if folder.gates.exists() else "Learning"
    print(f"{begin} gates on {part.num_train} images, judged by {part.num_test} others.")
    search = learn_gates(
        model,
        part.train,
        validation_data=part.test,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        sparsity_ratio=settings.sparsity_ratio,
        balance_factor=settings.balance_factor,
        channel_expansion=settings.channel_expansion,
        learning_rate=settings.gate_learning_rate,
        epochs=settings.gate_epochs,
        callbacks=[data.EpochSeed(part)],
        checkpoint=folder.gates,
        shuffle=False,  # the dataset shuffles
        verbose=1 if sys.stdout.isatty() else 2,
    )
    folder.write_json(folder.search, _told(search, settings, part.num_train))


def _check_budget(settings: Settings, model: keras.Model) -> None:
    """Finds out before the search whether any gates could lead to the budget."""
    wide = trace(widen(model, settings.channel_expansion))
    closed = np.where(wide.prunable, 0.0, np.inf)
    Search(wide, cost.inference_flops(model), closed, 0, [], 0.0).keep(settings.flops_budget)


def _told(search: Search, settings: Settings, examples: int) -> dict[str, Any]:
    """A search as JSON has it.

    Its steps are counted as whole training steps, although no gradient of a kernel is taken.
    """
    steps_flops = cost.training_flops(search.channel_map.model)
    removed = np.flatnonzero(~search.keep(settings.flops_budget))
    gates = search.gates[np.isfinite(search.gates)]
    return {
        "epoch": search.epoch,
        "history": search.history,
        "seconds": round(search.seconds, 1),
        "flops": steps_flops * examples * settings.gate_epochs,
        "removed": removed.tolist(),
        "gates": [round(float(gate), 4) for gate in gates],
    }
