"""The flags of `python -m ptkeras.train`: what they are, their ranges, and how they are kept.

Nothing here needs Keras: a wrong flag is told of before anything large is imported.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from pathlib import Path

from ptkeras import methods
from ptkeras.flagging import COUNT as _COUNT
from ptkeras.flagging import POSITIVE as _POSITIVE
from ptkeras.flagging import SWITCH as _SWITCH
from ptkeras.flagging import TEXT as _TEXT
from ptkeras.flagging import Flag as _Flag
from ptkeras.flagging import (
    FlagTable,
    Settings,
    SettingsError,
    asks_for_help,
    choice,
    choices,
)
from ptkeras.flagging import Parser as _Parser
from ptkeras.flagging import as_text as _as_text
from ptkeras.flagging import whole as _whole
from ptkeras.flagging import wholes as _wholes

__all__ = [
    "Settings",
    "SettingsError",
    "asks_for_help",
    "difference",
    "help_text",
    "parse",
    "to_text",
]

EXPORTS = ("saved_model", "onnx", "litert")


def _method(text: str) -> str:
    if text not in methods.names():
        close = difflib.get_close_matches(text, methods.names(), n=1, cutoff=0.4)
        hint = f" (did you mean {close[0]}?)" if close else ""
        # The parser would put its own words in the place of a ValueError.
        raise SettingsError(
            f"flag --method={text}: must be one of {', '.join(methods.names())}{hint}."
        )
    return text


_RATIO = _Parser(float, "over 0 and under 1; the paper has 0.2 to 0.3", lambda ratio: 0 < ratio < 1)
_MEASURE = choice("max", "mean")
_MOMENTUM = _Parser(float, "from 0 to under 1", lambda x: 0 <= x < 1)
_DECAY = _Parser(float, "a number from 0", lambda x: 0 <= x < math.inf)
_SEED = _Parser(_whole, "a whole number from 0 to 4294967295", lambda n: 0 <= n < 2**32)
_DROPS = _Parser(
    _wholes,
    "epochs in ascending order from 1, such as 91,136, or nothing",
    lambda drops: drops == sorted(set(drops)) and all(n >= 1 for n in drops),
)


_SECTIONS = {
    "Data and network": (
        _Flag(
            "dataset",
            "digits",
            _TEXT,
            "Data set: digits, which comes along, or an image classification data set of TFDS that "
            "lies prepared in --data_dir (cifar10, cifar100, imagenet2012, fashion_mnist, ...).",
        ),
        _Flag("data_dir", None, _TEXT, "Data directory of TFDS; left out, TFDS's default."),
        _Flag(
            "model",
            "resnet20",
            _TEXT,
            "Network: resnet20, resnet32, resnet56, resnet110, resnet50, vgg8, vgg11, vgg13, "
            "vgg16, vgg19, mobilenet, or a name of keras.applications, such as MobileNetV2.",
        ),
    ),
    "Training": (
        _Flag(
            "method",
            "prunetrain",
            _Parser(_method, "a method"),
            f"What prunes the network: {', '.join(methods.names())}.",
        ),
        _Flag("epochs", 60, _COUNT, "Epochs to train."),
        _Flag("batch_size", 32, _COUNT, "Images in a step, over all devices together."),
        _Flag("learning_rate", 0.1, _POSITIVE, "Learning rate of SGD at the start."),
        _Flag(
            "learning_rate_drops",
            [],
            _DROPS,
            "Numbers of epochs after which the learning rate is divided by 10, such as 91,136.",
        ),
        _Flag("momentum", 0.9, _MOMENTUM, "Momentum of SGD."),
        _Flag(
            "weight_decay",
            0.0,
            _DECAY,
            "L2 regularisation of all that is trained: the gradient of w gets weight_decay * w, "
            "ahead of the momentum, as PyTorch's SGD has it.",
        ),
        _Flag(
            "seed",
            0,
            _SEED,
            "Seed of all that is random. On one CPU machine a run repeats bit for bit.",
        ),
        _Flag(
            "output_dir",
            None,
            _TEXT,
            "The run folder; left out, runs/DATASET_MODEL_METHOD_seedN. The same command on an "
            "unfinished run folder goes on from its last finished epoch.",
        ),
        _Flag(
            "export",
            [],
            choices(*EXPORTS),
            "What to write into the run folder beside model.keras, verified: some of "
            "saved_model, onnx, litert. A finished run may be asked for more.",
        ),
    ),
    "PruneTrain": (
        _Flag("ratio", 0.2, _RATIO, "Lasso penalty ratio: the lasso's share of the first loss."),
        _Flag(
            "interval",
            10,
            _COUNT,
            "Reconfiguration interval in epochs. With every method, a checkpoint is kept then.",
        ),
        _Flag(
            "threshold",
            1e-4,
            _POSITIVE,
            "Sparsity threshold: a channel goes when all of its groups are under it.",
        ),
        _Flag(
            "measure",
            "max",
            _MEASURE,
            "How large a group is: max, its largest absolute weight, or mean.",
        ),
        _Flag(
            "channel_gating",
            False,
            _SWITCH,
            "Whether each layer at a shortcut keeps its own channels only, by selection.",
        ),
        _Flag(
            "remove_dead_branches",
            True,
            _SWITCH,
            "Whether a residual branch without channels leaves the network.",
        ),
        _Flag("min_channels", 1, _COUNT, "The least number of channels that a layer keeps."),
        _Flag(
            "channel_multiple",
            1,
            _COUNT,
            "What channel counts stay a multiple of; 8 suits tensor cores.",
        ),
        _Flag(
            "dynamic_batch",
            False,
            _SWITCH,
            "Whether the batch, and the learning rate with it, grows into freed memory.",
        ),
    ),
}
_TABLE = FlagTable(
    "ptkeras.train",
    [
        "Trains a network and makes it smaller meanwhile.",
        "",
        "  python -m ptkeras.train --flagfile=flags/digits_resnet20.flags",
        "",
        "Flags that come later win: those behind --flagfile=FILE change what FILE says.",
    ],
    _SECTIONS,
)
_FLAGS = _TABLE.flags
# What does not change the network that comes out.
_APART = ("output_dir", "export")


def parse(arguments: Iterable[str]) -> Settings:
    """Reads flags, flagfiles among them.

    Args:
        arguments: as in `sys.argv`, without the name of the program.

    Returns:
        The settings: `settings.batch_size` and so on.

    Raises:
        SettingsError: something is wrong with them.
    """
    settings = _TABLE.parse(arguments)
    _check_together(settings)
    if settings.output_dir is None:
        settings.output_dir = _default_folder(settings)
    return settings


def help_text() -> str:
    """All flags, by section, with their defaults."""
    return _TABLE.help_text()


def to_text(settings: Settings) -> str:
    """The settings as a flagfile, without the folder: whoever repeats a run wants another one."""
    kept = {name: getattr(settings, name) for name in _FLAGS if name != "output_dir"}
    lines = (f"--{name}={_as_text(value)}" for name, value in kept.items() if value is not None)
    return "\n".join(lines) + "\n"


def difference(settings: Settings, flagfile: Path) -> str | None:
    """Names the first flag in which settings differ from a flagfile, None if there is none."""
    try:
        others = parse([f"--flagfile={flagfile}"])
    except SettingsError as error:
        raise SettingsError(f"'{flagfile}' is not what a run left there: {error}") from error
    for name in _FLAGS:
        here, there = getattr(settings, name), getattr(others, name)
        if name not in _APART and here != there:
            return f"--{name} is {_as_text(there)} there and {_as_text(here)} here"
    return None


def _check_together(settings: Settings) -> None:
    drops, epochs = settings.learning_rate_drops, settings.epochs
    if drops and drops[-1] >= epochs:
        raise SettingsError(
            f"flag --learning_rate_drops={_as_text(drops)}: must all be under --epochs={epochs}, "
            "or --learning_rate_drops= for none."
        )
    if settings.method != "dense" and settings.interval > epochs:
        raise SettingsError(
            f"flag --interval={settings.interval}: must not be longer than --epochs={epochs}, or "
            "nothing would be removed before the end."
        )


def _default_folder(settings: Settings) -> str:
    dataset = settings.dataset.replace("/", "-").replace(":", "-")
    return f"runs/{dataset}_{settings.model}_{settings.method}_seed{settings.seed}"
