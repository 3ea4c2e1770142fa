"""Magnitude weight pruning (Han et al., NIPS 2015, arXiv 1506.02626)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ptkeras.methods.method import Method, Start
from ptkeras.runs.schema import Field, is_pair, is_share
from ptkeras.utils.flagging import COUNT, EPOCH, SCOPE, Flag, Parser, Settings, SettingsError
from ptkeras.utils.text import percent, whole

if TYPE_CHECKING:
    import keras
    from matplotlib.figure import Figure

    from ptkeras.data import Dataset
    from ptkeras.report.runs import Run
    from ptkeras.runs.run_folder import RunFolder

_SHARE = Parser(float, "from 0 to under 1", lambda x: 0 <= x < 1)
_FLAGS = {
    "Magnitude": (
        Flag(
            "sparsity", 0.5, _SHARE, "Share of the weights of convolution and dense kernels to go."
        ),
        Flag(
            "scope",
            "layer",
            SCOPE,
            "What has one threshold: layer, each kernel; kind, all convolutions and all dense "
            "layers; or global, all kernels.",
        ),
        Flag(
            "pruning_begin",
            None,
            EPOCH,
            "Epochs to train before weights go; left out, half of --epochs.",
        ),
        Flag(
            "pruning_end",
            None,
            EPOCH,
            "Epochs after which the last weights go; left out, those of --pruning_begin: all "
            "at once, as in Han et al.; between the two the sparsity rises as in Zhu & Gupta.",
        ),
        Flag(
            "pruning_frequency", 100, COUNT, "Steps between two prunings, where they are gradual."
        ),
    ),
}


class Magnitude(Method):
    """Trains, sets the smallest weights to zero, and trains on with the zeros held."""

    name = "magnitude"
    flags = _FLAGS
    columns = ("sparsity",)
    fields = (
        Field("sparsity", is_share, "weights that are zero", percent),
        Field("nonzero_params", is_pair, "parameters not zero", whole),
        Field("gzip_bytes", is_pair, "bytes, raw → gzip", whole),
    )

    def complete(self, settings: Settings) -> None:
        """Sets the epochs of the pruning; checks that epochs are left after it."""
        if settings.pruning_begin is None:
            settings.pruning_begin = settings.epochs // 2
        if settings.pruning_end is None:
            settings.pruning_end = settings.pruning_begin
        begin, end = settings.pruning_begin, settings.pruning_end
        if not begin <= end < settings.epochs:
            raise SettingsError(
                f"flag --pruning_end={end}: must be from --pruning_begin={begin} to under "
                f"--epochs={settings.epochs}, so that what is left is trained again."
            )

    def start(
        self, settings: Settings, dataset: Dataset, model: keras.Model, folder: RunFolder
    ) -> Start:
        """Returns the network, and the callbacks that prune it and count its zeros."""
        from ptkeras.magnitude import MagnitudePruning
        from ptkeras.methods.callbacks import magnitude

        steps = -(-dataset.num_train // int(dataset.batch_size))
        schedule = magnitude.gradual(
            settings.sparsity,
            settings.pruning_begin * steps,
            settings.pruning_end * steps,
            settings.pruning_frequency,
        )
        accounts = magnitude.SparseAccounts(dataset.num_train)
        pruning = MagnitudePruning(schedule, scope=settings.scope)
        return Start(model, [pruning, accounts], result=accounts.result)

    def figures(self, result: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the parameters that are not zero."""
        return {"params": result["nonzero_params"]} if "nonzero_params" in result else {}

    def sections(self, run: Run) -> Iterable[str]:
        """Returns the share of zeros over the epochs; the network keeps its channels."""
        from ptkeras.report import plots
        from ptkeras.report.elements import figure, section

        def sparsity(run: Run) -> Figure:
            return plots.share(run, "sparsity")

        if "sparsity" not in run.history:
            return super().sections(run)
        drawn = figure(sparsity, run, "Share of zero weights over the epochs")
        return [section("Weights that are zero", drawn)]


METHOD = Magnitude()
