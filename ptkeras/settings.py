"""The flags of `python -m ptkeras.train`: what they are, their ranges, and how they are kept.

Nothing here needs Keras: a wrong flag is told of before anything large is imported.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from absl import flags

from ptkeras import methods

Settings = flags.FlagValues

_HELP = {"-h", "-help", "--help", "--helpshort", "--helpfull"}


class SettingsError(Exception):
    """A flag, or some of them together, cannot be followed; the message is one sentence."""


class _Parser(flags.ArgumentParser):
    """Turns the text of a flag into its value.

    Args:
        convert: makes the value; raises ValueError where it cannot.
        wanted: completes "must be …".
        right: whether a value is in range.
    """

    def __init__(
        self, convert: Callable, wanted: str, right: Callable[[Any], bool] = lambda value: True
    ) -> None:
        self.convert = convert
        self.wanted = wanted
        self.right = right

    def parse(self, argument: Any) -> Any:
        try:
            value = self.convert(argument)
        except ValueError:
            raise ValueError(f"must be {self.wanted}.") from None
        if not self.right(value):
            raise ValueError(f"must be {self.wanted}.")
        return value


def _whole(text: Any) -> int:
    return int(str(text), base=10)


def _wholes(text: Any) -> list[int]:
    items = text.split(",") if isinstance(text, str) else text
    return [_whole(item) for item in items if str(item).strip()]


def _truth(text: Any) -> bool:
    truth = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}
    if str(text).lower() not in truth:
        raise ValueError
    return truth[str(text).lower()]


def _method(text: str) -> str:
    if text not in methods.names():
        close = difflib.get_close_matches(text, methods.names(), n=1, cutoff=0.4)
        hint = f" (did you mean {close[0]}?)" if close else ""
        # The parser would put its own words in the place of a ValueError.
        raise SettingsError(
            f"flag --method={text}: must be one of {', '.join(methods.names())}{hint}."
        )
    return text


_TEXT = _Parser(str, "some text", lambda text: bool(text.strip()))
_COUNT = _Parser(_whole, "a whole number from 1", lambda n: n >= 1)
_POSITIVE = _Parser(float, "a number over 0", lambda x: 0 < x < math.inf)
_SWITCH = _Parser(_truth, "true or false")
_RATIO = _Parser(float, "over 0 and under 1; the paper has 0.2 to 0.3", lambda ratio: 0 < ratio < 1)
_MEASURE = _Parser(str, "max or mean", lambda text: text in ("max", "mean"))
_MOMENTUM = _Parser(float, "from 0 to under 1", lambda x: 0 <= x < 1)
_DECAY = _Parser(float, "a number from 0", lambda x: 0 <= x < math.inf)
_PART = _Parser(float, "over 0 and at most 1", lambda x: 0 < x <= 1)
_EXPANSION = _Parser(float, "from 1 and under 16", lambda x: 1 <= x < 16)
_SHARE = _Parser(float, "from 0 to under 1", lambda x: 0 <= x < 1)
_EPOCH = _Parser(_whole, "a whole number from 0", lambda n: n >= 0)
_SCOPE = _Parser(str, "layer, kind or global", lambda text: text in ("layer", "kind", "global"))
_SEED = _Parser(_whole, "a whole number from 0 to 4294967295", lambda n: 0 <= n < 2**32)
_DROPS = _Parser(
    _wholes,
    "epochs in ascending order from 1, such as 91,136, or nothing",
    lambda drops: drops == sorted(set(drops)) and all(n >= 1 for n in drops),
)


@dataclasses.dataclass(frozen=True)
class _Flag:
    name: str
    default: Any
    parser: _Parser
    help: str


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
    "Magnitude": (
        _Flag(
            "sparsity", 0.5, _SHARE, "Share of the weights of convolution and dense kernels to go."
        ),
        _Flag(
            "scope",
            "layer",
            _SCOPE,
            "What has one threshold: layer, each kernel; kind, all convolutions and all dense "
            "layers; or global, all kernels.",
        ),
        _Flag(
            "pruning_begin",
            None,
            _EPOCH,
            "Epochs to train before weights go; left out, half of --epochs.",
        ),
        _Flag(
            "pruning_end",
            None,
            _EPOCH,
            "Epochs after which the last weights go; left out, those of --pruning_begin: all at "
            "once, as in Han et al.; between the two the sparsity rises as in Zhu & Gupta.",
        ),
        _Flag(
            "pruning_frequency", 100, _COUNT, "Steps between two prunings, where they are gradual."
        ),
    ),
    "Pruning from Scratch": (
        _Flag(
            "flops_budget",
            0.5,
            _PART,
            "Share of the network's inference FLOPs that the structure is to have.",
        ),
        _Flag(
            "budget_training",
            False,
            _SWITCH,
            "Whether --epochs, and the drops with them, grow until the small network has taken the "
            "FLOPs that the dense one would take to train.",
        ),
        _Flag("sparsity_ratio", 0.5, _PART, "Share of the channel gates that are to be open, r."),
        _Flag("balance_factor", 0.5, _DECAY, "Weight of (mean gate - r)^2 in the gates' loss."),
        _Flag(
            "channel_expansion",
            1.25,
            _EXPANSION,
            "How much wider than the network the one is that is searched.",
        ),
        _Flag(
            "gate_epochs",
            10,
            _COUNT,
            "Epochs to learn the gates for, on nine tenths of the training images; a tenth, 5,000 "
            "of CIFAR-10, judges them.",
        ),
        _Flag("gate_batch_size", 128, _COUNT, "Images in a step of that."),
        _Flag("gate_learning_rate", 0.01, _POSITIVE, "Learning rate of Adam for the gates."),
    ),
}
_FLAGS = {flag.name: flag for section in _SECTIONS.values() for flag in section}


def parse(arguments: Iterable[str]) -> Settings:
    """Reads flags, flagfiles among them.

    Args:
        arguments: as in `sys.argv`, without the name of the program.

    Returns:
        The settings: `settings.batch_size` and so on.

    Raises:
        SettingsError: something is wrong with them.
    """
    settings = _define()
    try:
        rest = settings(["ptkeras.train", *arguments])[1:]
    except (flags.Error, ValueError) as error:
        raise SettingsError(_sentence(error)) from error
    if rest:
        raise SettingsError(f"{rest[0]!r} is not a flag: each starts with --, such as --epochs=60.")
    _fill_in(settings)
    _check_together(settings)
    if settings.output_dir is None:
        settings.output_dir = _default_folder(settings)
    return settings


def asks_for_help(arguments: Iterable[str]) -> bool:
    """Whether one of the arguments is `--help`."""
    return not _HELP.isdisjoint(arguments)


def help_text() -> str:
    """All flags, by section, with their defaults."""
    lines = [
        "Trains a network and makes it smaller meanwhile.",
        "",
        "  python -m ptkeras.train --flagfile=flags/digits_resnet20.flags",
        "",
        "Flags that come later win: those behind --flagfile=FILE change what FILE says.",
    ]
    for title, section in _SECTIONS.items():
        lines += ["", f"{title}:"]
        for flag in section:
            lines.append(f"  --{flag.name}" + _default(flag))
            lines += textwrap.wrap(flag.help, 92, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return "\n".join(lines)


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
        if name != "output_dir" and here != there:
            return f"--{name} is {_as_text(there)} there and {_as_text(here)} here"
    return None


def _define() -> Settings:
    # Values of their own, not absl's global ones: a library has no say in its user's flags.
    settings = flags.FlagValues()
    for flag in _FLAGS.values():
        boolean = flag.parser is _SWITCH
        defined = (
            flags.BooleanFlag(flag.name, flag.default, flag.help)
            if boolean
            else flags.Flag(flag.parser, None, flag.name, flag.default, flag.help)
        )
        defined.parser = flag.parser
        flags.DEFINE_flag(defined, flag_values=settings)
    return settings


def _sentence(error: Exception) -> str:
    """What absl has to say about a flag, in one sentence."""
    if isinstance(error, flags.UnrecognizedFlagError):
        close = difflib.get_close_matches(error.flagname, _FLAGS, n=1)
        hint = f" (did you mean --{close[0]}?)" if close else ""
        return f"Unknown flag --{error.flagname}{hint}; --help shows them all."
    if isinstance(error, flags.CantOpenFlagFileError):
        return f"The flagfile cannot be read: {error.__cause__ or error}."
    if isinstance(error, UnicodeDecodeError):
        return "The flagfile is not a text file."
    return " ".join(str(error).split())


def _fill_in(settings: Settings) -> None:
    """Gives flags that were left out the values that depend on others."""
    if settings.method == "magnitude":
        if settings.pruning_begin is None:
            settings.pruning_begin = settings.epochs // 2
        if settings.pruning_end is None:
            settings.pruning_end = settings.pruning_begin


def _check_together(settings: Settings) -> None:
    drops, epochs = settings.learning_rate_drops, settings.epochs
    if drops and drops[-1] >= epochs:
        raise SettingsError(
            f"flag --learning_rate_drops={_as_text(drops)}: must all be under --epochs={epochs}, "
            "or --learning_rate_drops= for none."
        )
    if settings.method == "prunetrain" and settings.interval > epochs:
        raise SettingsError(
            f"flag --interval={settings.interval}: must not be longer than --epochs={epochs}, or "
            "nothing would be removed before the end."
        )
    if settings.method == "magnitude":
        begin, end = settings.pruning_begin, settings.pruning_end
        if not begin <= end < epochs:
            raise SettingsError(
                f"flag --pruning_end={end}: must be from --pruning_begin={begin} to under "
                f"--epochs={epochs}, so that what is left is trained again."
            )


def _default_folder(settings: Settings) -> str:
    dataset = settings.dataset.replace("/", "-").replace(":", "-")
    return f"runs/{dataset}_{settings.model}_{settings.method}_seed{settings.seed}"


def _default(flag: _Flag) -> str:
    return "" if flag.default in (None, []) else f"={_as_text(flag.default)}"


def _as_text(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
