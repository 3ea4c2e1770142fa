"""Prunes the network of a finished run by magnitude, to one ratio after the other.

python -m ptkeras.sweep --run=runs/digits_resnet20_dense_seed0 --finetune_epochs=5
python -m ptkeras.sweep --help
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from ptkeras.methods.settings import parse
from ptkeras.runs.run_folder import RunFolder
from ptkeras.utils.flagging import (
    COUNT,
    EPOCH,
    POSITIVE,
    SCOPE,
    SWITCH,
    TEXT,
    Flag,
    FlagTable,
    Parser,
    Settings,
    SettingsError,
    asks_for_help,
    fail,
    is_ours,
    texts,
)


def _numbers(text: Any) -> list[float]:
    return [float(item) for item in texts(text)]


_RATIOS = Parser(
    _numbers,
    "shares from 0 to under 1, such as 0.3,0.5,0.7",
    lambda ratios: ratios and all(0 <= ratio < 1 for ratio in ratios),
)
_TABLE = FlagTable(
    "ptkeras.sweep",
    __doc__.strip().splitlines()[:3],
    {
        "Flags": (
            Flag("run", None, TEXT, "The folder of a finished run of ptkeras.train."),
            Flag("data_dir", None, TEXT, "Data directory of TFDS; left out, that of the run."),
            Flag(
                "ratios",
                [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9],
                _RATIOS,
                "Shares of the weights of convolution and dense kernels to go.",
            ),
            Flag(
                "scope",
                "kind",
                SCOPE,
                "What has one threshold: kind, all convolutions and all dense layers; layer, each "
                "kernel; or global, all kernels.",
            ),
            Flag("finetune_epochs", 0, EPOCH, "Epochs to train each with the zeros held."),
            Flag(
                "learning_rate",
                0.001,
                POSITIVE,
                "Learning rate of SGD for that; momentum and weight decay are those of the run.",
            ),
            Flag("batch_size", 128, COUNT, "Images in a step of that."),
            Flag(
                "sensitivity",
                False,
                SWITCH,
                "Whether to prune each kernel by itself too, all others whole.",
            ),
        ),
    },
)
_APART = ("run", "data_dir", "sensitivity")  # they say nothing of the rows


def sweep(settings: Settings) -> None:
    """Prunes, evaluates and fine-tunes; prints the tables, and leaves `sweep.json` in the run.

    What is in `sweep.json` already, with the same flags, is not done again.

    Args:
        settings: the flags.

    Raises:
        SettingsError: there is no finished run.
    """
    folder = RunFolder(settings.run)
    if not folder.finished:
        raise SettingsError(
            f"flag --run={settings.run}: there is no finished run; train one with "
            "python -m ptkeras.train."
        )
    path = folder.path / "sweep.json"
    trained = parse([f"--flagfile={folder.flags}"])
    flags = {name: getattr(settings, name) for name in _TABLE.flags if name not in _APART}
    told = _told(path, flags)

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's notes on its own insides
    import keras
    from rich.console import Console

    from ptkeras import data, magnitude
    from ptkeras.cli.weight_decay import decay_weights
    from ptkeras.magnitude.kernels import kernels
    from ptkeras.magnitude.sweep import swept
    from ptkeras.utils.progress import bar, track

    keras.utils.set_random_seed(trained.seed)
    dataset = data.load(
        trained.dataset,
        batch_size=settings.batch_size,
        data_dir=settings.data_dir or trained.data_dir,
        seed=trained.seed,
    )
    model = keras.models.load_model(folder.model)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = keras.optimizers.SGD(settings.learning_rate, momentum=trained.momentum)
    model.compile(optimizer, loss, metrics=["accuracy"])
    decay_weights(model, trained.weight_decay)

    def evaluate(model: keras.Model) -> float:
        return model.evaluate(dataset.test, verbose=0, return_dict=True)["accuracy"]

    def finetune(model: keras.Model) -> None:
        model.fit(
            dataset.train,
            epochs=settings.finetune_epochs,
            shuffle=False,  # the dataset shuffles
            verbose=0,
            callbacks=[data.EpochSeed(dataset)],
        )

    told.setdefault("dense", evaluate(model))
    for ratio in track(settings.ratios, "Pruning"):
        if str(ratio) not in told["rows"]:
            train = finetune if settings.finetune_epochs else None
            row = swept(model, evaluate, ratio, settings.scope, train)
            told["rows"][str(ratio)] = dataclasses.asdict(row)
            folder.write_json(path, told)
            print(f"Ratio {ratio:g}: accuracy {row.accuracy:.2%} as pruned.")
    rows = tuple(magnitude.SweepRow(**told["rows"][str(ratio)]) for ratio in settings.ratios)
    console = Console()
    console.print(magnitude.Sweep(told["dense"], rows))
    if settings.sensitivity:
        if "sensitivity" not in told:
            trials = 1 + len(kernels(model)) * len(settings.ratios)
            with bar("Pruning one kernel at a time", trials) as step:

                def counted(model: keras.Model) -> float:
                    step()
                    return evaluate(model)

                found = magnitude.sensitivity(model, counted, settings.ratios)
            told["sensitivity"] = {"ratios": found.ratios, "accuracies": found.accuracies}
            folder.write_json(path, told)
        console.print(magnitude.Sensitivity(told["dense"], **told["sensitivity"]))


def _told(path: Any, flags: dict[str, Any]) -> dict[str, Any]:
    """What an earlier sweep with the same flags has left, or nothing."""
    if path.exists():
        told = json.loads(path.read_text(encoding="utf-8"))
        if told["flags"] == flags:
            return told
    return {"flags": flags, "rows": {}}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: the flags; None for those of the process.

    Returns:
        The exit status: 0, 1 where one sentence on standard error says what is wrong, or 130 after
        Ctrl-C.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if asks_for_help(arguments):
        print(_TABLE.help_text())
        return 0
    try:
        settings = _TABLE.parse(arguments)
        if settings.run is None:
            raise SettingsError("flag --run: must name the folder of a finished run.")
        sweep(settings)
    except (SettingsError, OSError) as error:
        return fail(str(error))
    except ValueError as error:
        if not is_ours(error):
            raise
        return fail(str(error))
    except KeyboardInterrupt:
        return fail("Stopped; the same command goes on from the last finished ratio.") + 129
    return 0


if __name__ == "__main__":
    sys.exit(main())
