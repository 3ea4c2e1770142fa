"""The contract between a method and the command line, the run folder and the report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from ptkeras.runs.schema import Field

if TYPE_CHECKING:
    import keras
    from rich.table import Table

    from ptkeras.data import Dataset
    from ptkeras.report.runs import Run
    from ptkeras.runs.run_folder import RunFolder
    from ptkeras.utils.flagging import Flag, Settings


INTERVAL = 10  # epochs, where --interval is left out


def checkpoint_interval(settings: Settings) -> int:
    """Returns the number of epochs between two checkpoints that are kept."""
    return settings.interval if isinstance(settings.interval, int) else INTERVAL


class Start(NamedTuple):
    """What a run trains, and how.

    Attributes:
        model: the network.
        callbacks: those that make a `fit` what the method's paper describes. They fill `lasso`,
            `channels`, `params`, `inference_flops`, `training_flops` and the method's `columns`
            into the logs of each epoch. One that has to survive a kill has `get_state()` and
            `set_state(state)`. One that changes the network in the training lists that in
            `reconfigurations`, as `ptkeras.PruneTrain` does.
        epochs: how many; None for `--epochs`.
        learning_rate_drops: the epochs after which the learning rate is divided by 10; None for
            those of the flags.
        finish: takes the trained network and returns that of the run, compiled to be evaluated.
        result: returns the method's figures for `result.json`, once the training is finished.
    """

    model: keras.Model
    callbacks: list[keras.callbacks.Callback]
    epochs: int | None = None
    learning_rate_drops: list[int] | None = None
    finish: Callable[[keras.Model], keras.Model] = lambda model: model
    result: Callable[[], dict[str, Any]] = dict


class Method:
    """A published system: all that the rest of the library knows about it.

    A module of a method holds a subclass, and an instance of it as `METHOD`; the registry in
    `ptkeras/methods/__init__.py` has a line for the module. The module is imported whenever flags
    are read, so Keras, NumPy and Matplotlib are imported in the methods that need them.

    ```python
    class Random(Method):
        name = "random"
        flags = {"Random": (Flag("share", 0.5, SHARE, "Share of the channels to remove."),)}

        def start(self, settings, dataset, model, folder):
            return Start(model, [RandomPruning(settings.share)])


    METHOD = Random()
    ```

    Attributes:
        name: what `--method` takes, `result.json` holds and tables show.
        flags: the flags that the method reads beside those of all methods, by the title of their
            section. Methods may share a section.
        packages: packages that have to be installed, by the names under which they are imported;
            checked before the training.
        is_distributed: whether it trains on several devices and machines (`--strategy`).
        is_pruning: whether its network is compared with a dense one.
        threshold: the name of the flag with the magnitude under which channels are removed, for the
            plot of magnitudes; None if there is none.
        columns: columns of `history.csv` beside those of all methods.
        fields: figures of `result.json` beside those of all methods, and their rows of the summary.
    """

    name: ClassVar[str] = ""
    flags: ClassVar[Mapping[str, tuple[Flag, ...]]] = {}
    packages: ClassVar[tuple[str, ...]] = ()
    is_distributed: ClassVar[bool] = False
    is_pruning: ClassVar[bool] = True
    threshold: ClassVar[str | None] = None
    columns: ClassVar[tuple[str, ...]] = ()
    fields: ClassVar[tuple[Field, ...]] = ()

    def complete(self, settings: Settings) -> None:
        """Sets flags that depend on others, and checks the flags together.

        Args:
            settings: the flags of `ptkeras.train`, each in its range.

        Raises:
            SettingsError: If the method cannot follow them.
        """

    def check_devices(self, settings: Settings, replicas: int) -> None:
        """Checks that the training can be shared out over devices.

        Args:
            settings: the flags of `ptkeras.train`.
            replicas: the number of devices; `--batch_size` is a multiple of it.

        Raises:
            SettingsError: If it cannot.
        """

    def start(
        self, settings: Settings, dataset: Dataset, model: keras.Model, folder: RunFolder
    ) -> Start:
        """Returns what a run trains. Refuses here what the method cannot follow.

        Args:
            settings: the flags of `ptkeras.train`.
            dataset: the training and test images.
            model: the network that the flags name, untrained.
            folder: the run folder, not open yet, so that the flags can still be changed. A method
                that searches before the training opens it, and keeps there what it found.

        Raises:
            ValueError: If the method cannot prune this network.
        """
        raise NotImplementedError

    def stages(self, flags: Mapping[str, str]) -> dict[str, int]:
        """Returns the stages of the training, and the epochs of each; nothing if it has one stage.

        Args:
            flags: the flags of a finished run, as text.

        Raises:
            LookupError: If one is missing.
            ValueError: If one is no number.
        """
        return {}

    def has_threshold(self, flags: Mapping[str, str]) -> bool:
        """Returns whether a run with some flags removes channels under a threshold.

        Args:
            flags: what is in `flags.txt`, by name.
        """
        return self.threshold is not None

    def figures(self, result: Mapping[str, Any]) -> dict[str, Any]:
        """Returns what its runs are compared by, if it differs from the figures of all methods.

        Args:
            result: what is in `result.json`; an older run may lack some figures.

        Returns:
            Some of the figures of `ptkeras.report.summary.figures`.
        """
        return {}

    def tables(self, result: Mapping[str, Any]) -> Iterable[Table]:
        """Returns what is printed after the summary.

        Args:
            result: what is in `result.json`; an older run may lack some figures.
        """
        return ()

    def sections(self, run: Run) -> Iterable[str]:
        """Returns its sections of `report.html`: what it removed, and when.

        Args:
            run: a finished run; an older one may lack some figures.
        """
        from ptkeras.report import removal

        return removal.sections(run)
