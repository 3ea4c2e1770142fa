"""What no image needs, and then what this image does not need: EigenDamage and SkipNet in one run.

The stages, one after the other in one `fit`:

1. `--epochs`: the network trains with all gates open, as it would without them but for the order
   in which gradients are summed;
2. `--pretraining_epochs`: supervised pre-training of the gates;
3. with all gates open, for each of `--prune_ratio` a pruning in the eigenbasis, and
   `--finetune_epochs`;
4. `--rl_epochs`: hybrid reinforcement learning.

What a stage is, the number of the epoch says, and so a run that was killed goes on in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from ptkeras.methods.eigendamage import EigenDamage
from ptkeras.methods.method import Start
from ptkeras.methods.skipnet import SkipNet
from ptkeras.runs.schema import Field, is_number, list_of

if TYPE_CHECKING:
    import keras
    from rich.table import Table

    from ptkeras.data import Dataset
    from ptkeras.report.runs import Run
    from ptkeras.runs.run_folder import RunFolder
    from ptkeras.utils.flagging import Flag, Settings


def _is_network(row: Any) -> bool:
    if not isinstance(row, dict) or not isinstance(row.get("network"), str):
        return False
    figures = (row.get(key) for key in ("accuracy", "params", "inference_flops", "milliseconds"))
    return all(figure is None or is_number(figure) for figure in figures)


class StaticDynamic(SkipNet):
    """Trains with gates, prunes the layers between them, and reinforces the gates."""

    name = "static_dynamic"
    flags: ClassVar[Mapping[str, tuple[Flag, ...]]] = {**EigenDamage.flags, **SkipNet.flags}
    packages = ("onnx", "onnxruntime", "tf2onnx")
    fields = (*SkipNet.fields, *EigenDamage.fields, Field("comparison", list_of(_is_network)))

    def start(
        self, settings: Settings, dataset: Dataset, model: keras.Model, folder: RunFolder
    ) -> Start:
        """Puts gates on the network, which trains for as long as all stages take."""
        from ptkeras import skipnet
        from ptkeras.methods.callbacks.static_dynamic import Stages, Static

        network = skipnet.add_gates(model, settings.gate)
        gates, static = Stages(settings, dataset, folder), Static(settings, dataset.num_train)
        return Start(
            network,
            [gates, static],
            gates.finetuned + settings.rl_epochs,
            finish=gates.finish,
            result=lambda: gates.result() | static.result(),
        )

    def stages(self, flags: Mapping[str, str]) -> dict[str, int]:
        """Returns the stages of the training, and the epochs of each."""
        prunings = len(flags["prune_ratio"].split(","))
        return {
            "training with all gates open": int(flags["epochs"]),
            "supervised pre-training of the gates": int(flags["pretraining_epochs"]),
            "pruning and fine-tuning with all gates open": prunings * int(flags["finetune_epochs"]),
            "hybrid reinforcement learning": int(flags["rl_epochs"]),
        }

    def tables(self, result: Mapping[str, Any]) -> Iterable[Table]:
        """Returns the networks after the stages beside each other."""
        from ptkeras.methods.pages import networks

        return networks.tables(result)

    def sections(self, run: Run) -> Iterable[str]:
        """Returns the networks after the stages, what the gates decide, and what was removed."""
        from ptkeras.methods.pages import networks

        yield from networks.sections(run)
        yield from super().sections(run)


METHOD = StaticDynamic()
