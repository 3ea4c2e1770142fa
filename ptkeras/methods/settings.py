"""The flags of `python -m ptkeras.train`, by section: names, defaults, ranges and help."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from ptkeras import methods
from ptkeras.export.formats import FORMATS
from ptkeras.methods.flag_checks import complete
from ptkeras.utils.flagging import (
    COUNT,
    EPOCH,
    POSITIVE,
    SWITCH,
    TEXT,
    Flag,
    FlagTable,
    Parser,
    Settings,
    SettingsError,
    choice,
    choices,
    texts,
    whole,
)
from ptkeras.utils.names import did_you_mean

STRATEGIES = ("none", "mirrored", "multi_worker", "tpu", "data_parallel")


def _method(text: str) -> str:
    if text not in methods.names():
        hint = did_you_mean(text, methods.names())
        # The parser would put its own words in the place of a ValueError.
        raise SettingsError(
            f"flag --method={text}: must be one of {', '.join(methods.names())}{hint}."
        )
    return text


_MOMENTUM = Parser(float, "from 0 to under 1", lambda x: 0 <= x < 1)
_DECAY = Parser(float, "a number from 0", lambda x: 0 <= x < math.inf)
_SEED = Parser(whole, "a whole number from 0 to 4294967295", lambda n: 0 <= n < 2**32)
_DEVICES = Parser(
    texts,
    "devices, each once, such as GPU:0,GPU:1",
    lambda names: (
        all(re.fullmatch(r"(cpu|gpu|tpu):\d{1,4}", name, re.IGNORECASE) for name in names)
        and len({name.lower() for name in names}) == len(names)
    ),
)
_DROPS = Parser(
    lambda text: [float(n) if 0 < float(n) < 1 else whole(n) for n in texts(text)],
    "epochs in ascending order, as numbers from 1, such as 91,136, or as shares of --epochs, such "
    "as 0.5,0.75, or nothing",
    lambda drops: (
        drops == sorted(set(drops)) and len({n < 1 for n in drops}) < 2 and 0 not in drops
    ),
)

_INTRO = (
    "Trains a network and makes it smaller meanwhile.",
    "",
    "  python -m ptkeras.train --flagfile=flags/digits_resnet20.flags",
    "",
    "Flags that come later win: those after --flagfile=FILE change what FILE says.",
)


def _common() -> dict[str, tuple[Flag, ...]]:
    """Returns the flags that all methods read, by section."""
    return {
        "Data and network": (
            Flag(
                "dataset",
                "digits",
                TEXT,
                "Data set: digits, which comes along, or an image classification data set of TFDS "
                "that lies prepared in --data_dir (cifar10, cifar100, imagenet2012, "
                "fashion_mnist, ...), or your own: package.module:function, which returns what "
                "keras.datasets.cifar10.load_data does.",
            ),
            Flag("data_dir", None, TEXT, "Data directory of TFDS; left out, TFDS's default."),
            Flag(
                "model",
                "resnet20",
                TEXT,
                "Network: resnet20, resnet32, resnet56, resnet110, resnet50, vgg8, vgg11, vgg13, "
                "vgg16, vgg19, mobilenet, a name of keras.applications, such as MobileNetV2, or "
                "your own: package.module:function, called with the shape of an image and the "
                "number of classes.",
            ),
        ),
        "Training": (
            Flag(
                "method",
                "prunetrain",
                Parser(_method, "a method"),
                f"What prunes the network: {', '.join(methods.names())}.",
            ),
            Flag("epochs", 60, COUNT, "Epochs to train."),
            Flag(
                "batch_size", 32, COUNT, "Images in a step, over all devices and machines together."
            ),
            Flag("learning_rate", 0.1, POSITIVE, "Learning rate of SGD, the highest one."),
            Flag(
                "schedule",
                "steps",
                choice("steps", "cosine", "one_cycle"),
                "How the learning rate changes: steps, a tenth after each drop; cosine, half a "
                "wave down to 0; one_cycle, up in a fifth of the epochs and down to 0.",
            ),
            Flag(
                "learning_rate_drops",
                [],
                _DROPS,
                "Epochs after which the learning rate is divided by 10: numbers, such as 91,136, "
                "or shares of --epochs, such as 0.5,0.75.",
            ),
            Flag("warmup_epochs", 0, EPOCH, "Epochs in which the learning rate rises at first."),
            Flag("momentum", 0.9, _MOMENTUM, "Momentum of SGD."),
            Flag(
                "weight_decay",
                0.0,
                _DECAY,
                "L2 regularisation of all that is trained: the gradient of w gets "
                "weight_decay * w, ahead of the momentum, as PyTorch's SGD has it.",
            ),
            Flag(
                "seed",
                0,
                _SEED,
                "Seed of all that is random. On one CPU machine a run repeats bit for bit, unless "
                "--interval is auto.",
            ),
            Flag(
                "output_dir",
                None,
                TEXT,
                "The run folder; left out, runs/DATASET_MODEL_METHOD_seedN. The same command on an "
                "unfinished run folder goes on from its last finished epoch.",
                is_apart=True,
                is_place=True,
            ),
            Flag(
                "export",
                [],
                choices(*(one.name for one in FORMATS)),
                "What to write into the run folder beside model.keras, verified: some of "
                f"{', '.join(one.name for one in FORMATS)}. A finished run may be asked for more.",
                is_apart=True,
            ),
            Flag(
                "baseline",
                None,
                TEXT,
                "The folder of a finished dense run of the same network and epochs, whose accuracy "
                "and seconds stand beside those of the run.",
                is_apart=True,
                is_place=True,
            ),
            Flag(
                "compare_dense",
                False,
                SWITCH,
                "Whether to train the dense network first, in OUTPUT_DIR_dense, as the baseline.",
                is_apart=True,
            ),
            Flag(
                "tensorboard",
                False,
                SWITCH,
                "Whether to write what TensorBoard shows into the run folder: all figures of each "
                "epoch, and histograms of the weights at each --interval.",
                is_apart=True,
            ),
        ),
        "Devices": (
            Flag(
                "strategy",
                "none",
                choice(*STRATEGIES),
                "What shares each batch out: none, one device; mirrored, the GPUs of this machine; "
                "multi_worker, several machines, each with this command and a TF_CONFIG of its "
                "own; tpu; or, with KERAS_BACKEND=jax, data_parallel, all devices of JAX. With "
                f"--method={' and '.join(methods.distributed())}.",
            ),
            Flag(
                "devices",
                [],
                _DEVICES,
                "Those that mirrored or data_parallel takes, such as GPU:0,GPU:1; left out, all. "
                "CPU:0,CPU:1 are parts of the CPU, to try it.",
            ),
        ),
    }


def table() -> FlagTable:
    """Returns the flags of all methods that are registered."""
    sections = _common()
    for method in methods.registered().values():
        sections |= method.flags
    return FlagTable(
        "ptkeras.train", _INTRO, sections, complete, lambda settings: read_by(settings.method)
    )


def parse(arguments: Iterable[str]) -> Settings:
    """Returns the settings that arguments give.

    Args:
        arguments: as in `sys.argv`, without the name of the program.

    Raises:
        SettingsError: If something is wrong with them.
    """
    return table().parse(arguments)


def read_by(method: str) -> list[str]:
    """Returns the names of the flags that a method reads.

    Args:
        method: its name; of one that is not known, those that all methods read.
    """
    sections = {**_common(), **methods.find(method).flags}
    return [flag.name for section in sections.values() for flag in section]
