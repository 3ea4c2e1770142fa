"""PruneTrain (Lym et al., SC'19, arXiv 1901.09290)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ptkeras.methods.method import INTERVAL, Method, Start
from ptkeras.utils.flagging import (
    COUNT,
    POSITIVE,
    SWITCH,
    Flag,
    Parser,
    Settings,
    SettingsError,
    choice,
)

if TYPE_CHECKING:
    import keras

    from ptkeras.data import Dataset
    from ptkeras.runs.run_folder import RunFolder


def _count_or_auto(text: str) -> int | str:
    return text if text == "auto" else int(COUNT.parse(text))


_INTERVAL = Parser(
    lambda text: text if text == "stage" else _count_or_auto(text),
    "a whole number of epochs from 1, auto or stage",
)
_MULTIPLE = Parser(_count_or_auto, "a whole number from 1, or auto")
_SHARE = Parser(float, "a number over 0 and under 1", lambda share: 0 < share < 1)
_RATIO = Parser(float, "over 0 and under 1; the paper has 0.2 to 0.3", lambda ratio: 0 < ratio < 1)

# The flags of the paper's group lasso, with its values.
_PAPERS = {
    "ratio": 0.2,
    "threshold": 1e-4,
    "channel_gating": False,
    "remove_dead_branches": True,
}

_FLAGS = {
    "PruneTrain": (
        Flag(
            "target",
            None,
            _SHARE,
            "Share of the cost that is left in the end. Left out, 0.5, or the paper's group lasso "
            "if one of its flags is given: ratio, threshold, channel_gating, remove_dead_branches.",
        ),
        Flag(
            "of",
            "flops",
            choice("flops", "params", "channels"),
            "What --target is a share of: FLOPs of one image, parameters or channels.",
        ),
        Flag(
            "ratio",
            None,
            _RATIO,
            "Lasso penalty ratio: the lasso's share of the first loss. Left out, 0.2, unless there "
            "is a target.",
        ),
        Flag(
            "interval",
            None,
            _INTERVAL,
            "Reconfiguration interval in epochs; auto: when it saves more time than it costs, by "
            "the clock; stage, with a target: after each stage of the way there, so that the run "
            "repeats bit for bit. Left out, 10, and auto with a target. With every method, a "
            "checkpoint is kept then, or every 10 epochs.",
        ),
        Flag(
            "threshold",
            None,
            POSITIVE,
            "Sparsity threshold of the lasso: a channel goes when all of its groups are under it. "
            "Left out, 1e-4.",
        ),
        Flag(
            "measure",
            "max",
            choice("max", "mean"),
            "How large a group is: max, its largest absolute weight, or mean.",
        ),
        Flag(
            "channel_gating",
            None,
            SWITCH,
            "Whether each layer at a shortcut keeps its own channels only, by selection.",
        ),
        Flag(
            "remove_dead_branches",
            None,
            SWITCH,
            "Whether a residual branch without channels leaves the network.",
        ),
        Flag("min_channels", 1, COUNT, "The least number of channels that a layer keeps."),
        Flag(
            "channel_multiple",
            1,
            _MULTIPLE,
            "What channel counts stay a multiple of; auto for what suits this machine.",
        ),
        Flag(
            "dynamic_batch",
            False,
            SWITCH,
            "Whether the batch, and the learning rate with it, grows into freed memory.",
        ),
    ),
}


class PruneTrain(Method):
    """Prunes from the first step, by group lasso and reconfiguration."""

    name = "prunetrain"
    flags = _FLAGS
    is_distributed = True
    threshold = "threshold"

    def complete(self, settings: Settings) -> None:
        """Sets the flags of the way to prune that is meant, and checks the interval."""
        given = [name for name in _PAPERS if getattr(settings, name) is not None]
        if given and settings.target is not None:
            raise SettingsError(
                f"flag --target={settings.target:g}: is for a budget, and --{given[0]} for the "
                "paper's group lasso; leave one of them out."
            )
        if given:
            for name, default in _PAPERS.items():
                if getattr(settings, name) is None:
                    setattr(settings, name, default)
            if settings.interval == "stage":
                raise SettingsError(
                    f"flag --interval=stage: is for a target, and --{given[0]} for the paper's "
                    "group lasso; give a number of epochs."
                )
            settings.interval = settings.interval or INTERVAL
        else:
            settings.target = settings.target or 0.5
            settings.interval = settings.interval or "auto"
        if isinstance(settings.interval, int) and settings.interval > settings.epochs:
            raise SettingsError(
                f"flag --interval={settings.interval}: must not be longer than "
                f"--epochs={settings.epochs}, or nothing would be removed before the end."
            )
        if settings.target is not None and settings.epochs < 2:
            raise SettingsError(
                f"flag --epochs={settings.epochs}: --target needs 2 epochs and more, to choose "
                "channels and to take them to zero."
            )

    def has_threshold(self, flags: Mapping[str, str]) -> bool:
        """Returns whether a run was of the group lasso."""
        return "target" not in flags

    def check_devices(self, settings: Settings, replicas: int) -> None:
        """Checks that the devices can share every batch, as it grows."""
        from ptkeras.prunetrain.batching import GRANULARITY

        step = min(settings.batch_size, GRANULARITY)
        if settings.dynamic_batch and step % replicas:
            raise SettingsError(
                f"flag --dynamic_batch: the batch grows by multiples of {step}, which {replicas} "
                "devices cannot share; leave it out."
            )

    def start(
        self, settings: Settings, dataset: Dataset, model: keras.Model, folder: RunFolder
    ) -> Start:
        """Returns the network, and the callback; the batch of the data set grows if asked to."""
        from ptkeras import prunetrain

        if settings.target is None:
            way: dict[str, Any] = {name: getattr(settings, name) for name in (*_PAPERS, "measure")}
        else:
            way = {"target": settings.target, "of": settings.of}
        pruning = prunetrain.PruneTrain(
            interval=None if settings.interval == "stage" else settings.interval,
            min_channels=settings.min_channels,
            channel_multiple=settings.channel_multiple,
            batch_size=dataset.batch_size if settings.dynamic_batch else None,
            **way,
        )
        return Start(model, [pruning])


METHOD = PruneTrain()
