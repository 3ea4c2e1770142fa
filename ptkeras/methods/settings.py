"""The flags of `python -m ptkeras.train`, by section: names, defaults, ranges and help."""

from __future__ import annotations

import difflib
import math
import re

from ptkeras import methods
from ptkeras.methods.flag_checks import complete
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
    SettingsError,
    choice,
    choices,
    reals,
    texts,
    whole,
    wholes,
)

EXPORTS = ("saved_model", "onnx", "litert")
STRATEGIES = ("none", "mirrored", "multi_worker", "tpu", "data_parallel")


def _method(text: str) -> str:
    if text not in methods.names():
        close = difflib.get_close_matches(text, methods.names(), n=1, cutoff=0.4)
        hint = f" (did you mean {close[0]}?)" if close else ""
        # The parser would put its own words in the place of a ValueError.
        raise SettingsError(
            f"flag --method={text}: must be one of {', '.join(methods.names())}{hint}."
        )
    return text


_RATIO = Parser(float, "over 0 and under 1; the paper has 0.2 to 0.3", lambda ratio: 0 < ratio < 1)
_MEASURE = choice("max", "mean")
_MOMENTUM = Parser(float, "from 0 to under 1", lambda x: 0 <= x < 1)
_DECAY = Parser(float, "a number from 0", lambda x: 0 <= x < math.inf)
_PART = Parser(float, "over 0 and at most 1", lambda x: 0 < x <= 1)
_EXPANSION = Parser(float, "from 1 and under 16", lambda x: 1 <= x < 16)
_SHARE = Parser(float, "from 0 to under 1", lambda x: 0 <= x < 1)
_OPEN_PART = Parser(float, "over 0 and under 1", lambda x: 0 < x < 1)
_RATIOS = Parser(
    reals,
    "numbers over 0 and under 1, such as 0.5 or 0.5,0.4",
    lambda ratios: len(ratios) > 0 and all(0 < ratio < 1 for ratio in ratios),
)
_DISCOUNT = Parser(float, "from 0 to 1", lambda x: 0 <= x <= 1)
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
    wholes,
    "epochs in ascending order from 1, such as 91,136, or nothing",
    lambda drops: drops == sorted(set(drops)) and all(n >= 1 for n in drops),
)


_SECTIONS = {
    "Data and network": (
        Flag(
            "dataset",
            "digits",
            TEXT,
            "Data set: digits, which comes along, or an image classification data set of TFDS that "
            "lies prepared in --data_dir (cifar10, cifar100, imagenet2012, fashion_mnist, ...).",
        ),
        Flag("data_dir", None, TEXT, "Data directory of TFDS; left out, TFDS's default."),
        Flag(
            "model",
            "resnet20",
            TEXT,
            "Network: resnet20, resnet32, resnet56, resnet110, resnet50, vgg8, vgg11, vgg13, "
            "vgg16, vgg19, mobilenet, or a name of keras.applications, such as MobileNetV2.",
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
        Flag("batch_size", 32, COUNT, "Images in a step, over all devices and machines together."),
        Flag("learning_rate", 0.1, POSITIVE, "Learning rate of SGD at the start."),
        Flag(
            "learning_rate_drops",
            [],
            _DROPS,
            "Numbers of epochs after which the learning rate is divided by 10, such as 91,136.",
        ),
        Flag("momentum", 0.9, _MOMENTUM, "Momentum of SGD."),
        Flag(
            "weight_decay",
            0.0,
            _DECAY,
            "L2 regularisation of all that is trained: the gradient of w gets weight_decay * w, "
            "ahead of the momentum, as PyTorch's SGD has it.",
        ),
        Flag(
            "seed",
            0,
            _SEED,
            "Seed of all that is random. On one CPU machine a run repeats bit for bit.",
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
            choices(*EXPORTS),
            "What to write into the run folder beside model.keras, verified: some of "
            "saved_model, onnx, litert. A finished run may be asked for more.",
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
            "multi_worker, several machines, each with this command and a TF_CONFIG of its own; "
            "tpu; or, with KERAS_BACKEND=jax, data_parallel, all devices of JAX. With --method="
            "dense and prunetrain.",
        ),
        Flag(
            "devices",
            [],
            _DEVICES,
            "Those that mirrored or data_parallel takes, such as GPU:0,GPU:1; left out, all. "
            "CPU:0,CPU:1 are parts of the CPU, to try it.",
        ),
    ),
    "PruneTrain": (
        Flag("ratio", 0.2, _RATIO, "Lasso penalty ratio: the lasso's share of the first loss."),
        Flag(
            "interval",
            10,
            COUNT,
            "Reconfiguration interval in epochs. With every method, a checkpoint is kept then.",
        ),
        Flag(
            "threshold",
            1e-4,
            POSITIVE,
            "Sparsity threshold: a channel goes when all of its groups are under it.",
        ),
        Flag(
            "measure",
            "max",
            _MEASURE,
            "How large a group is: max, its largest absolute weight, or mean.",
        ),
        Flag(
            "channel_gating",
            False,
            SWITCH,
            "Whether each layer at a shortcut keeps its own channels only, by selection.",
        ),
        Flag(
            "remove_dead_branches",
            True,
            SWITCH,
            "Whether a residual branch without channels leaves the network.",
        ),
        Flag("min_channels", 1, COUNT, "The least number of channels that a layer keeps."),
        Flag(
            "channel_multiple",
            1,
            COUNT,
            "What channel counts stay a multiple of; 8 suits tensor cores.",
        ),
        Flag(
            "dynamic_batch",
            False,
            SWITCH,
            "Whether the batch, and the learning rate with it, grows into freed memory.",
        ),
    ),
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
            "Epochs after which the last weights go; left out, those of --pruning_begin: all at "
            "once, as in Han et al.; between the two the sparsity rises as in Zhu & Gupta.",
        ),
        Flag(
            "pruning_frequency", 100, COUNT, "Steps between two prunings, where they are gradual."
        ),
    ),
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
            "Whether --epochs, and the drops with them, grow until the small network has taken the "
            "FLOPs that the dense one would take to train.",
        ),
        Flag("sparsity_ratio", 0.5, _PART, "Share of the channel gates that are to be open, r."),
        Flag("balance_factor", 0.5, _DECAY, "Weight of (mean gate - r)^2 in the gates' loss."),
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
            "Epochs to learn the gates for, on nine tenths of the training images; a tenth, 5,000 "
            "of CIFAR-10, judges them.",
        ),
        Flag("gate_batch_size", 128, COUNT, "Images in a step of that."),
        Flag("gate_learning_rate", 0.01, POSITIVE, "Learning rate of Adam for the gates."),
    ),
    "EigenDamage": (
        Flag(
            "prune_ratio",
            [0.5],
            _RATIOS,
            "Share of all rows and columns, in the eigenbasis, to go behind --epochs of training: "
            "one for one pass, such as 0.5, or one for each iteration, such as 0.5,0.5,0.4.",
        ),
        Flag(
            "prune_ratio_limit",
            0.97,
            _OPEN_PART,
            "The largest share of one layer's rows or columns to go at once.",
        ),
        Flag("fisher_images", 2000, COUNT, "Training images to measure the Fisher information on."),
        Flag("finetune_epochs", 30, COUNT, "Epochs of fine-tuning behind each pruning."),
        Flag(
            "finetune_learning_rate",
            1e-3,
            POSITIVE,
            "Learning rate of a fine-tuning; it is divided by 10 after a half and after three "
            "quarters of it.",
        ),
    ),
    "SkipNet": (
        Flag(
            "gate",
            "rnn",
            choice("ffgate1", "ffgate2", "rnn"),
            "What decides on a residual block: ffgate1, two convolutions; ffgate2, one; or rnn, an "
            "LSTM that all blocks share.",
        ),
        Flag(
            "gates",
            "hard",
            choice("hard", "soft"),
            "What branches are multiplied by in supervised pre-training: hard, 0 or 1; or soft, "
            "the probability.",
        ),
        Flag("alpha", 0.1, _DECAY, "Reward for an image that skips all residual blocks."),
        Flag(
            "gamma", 1.0, _DISCOUNT, "Discount of what later gates are rewarded for, and the loss."
        ),
        Flag(
            "rl_weight",
            0.1,
            POSITIVE,
            "Weight of the gates' rewards beside the loss, a mean over the images of a batch.",
        ),
        Flag(
            "rl_epochs",
            20,
            COUNT,
            "Epochs of hybrid reinforcement learning, behind --epochs of supervised pre-training.",
        ),
        Flag("rl_learning_rate", 0.01, POSITIVE, "Learning rate of reinforcement learning."),
        Flag(
            "pretraining_epochs",
            10,
            COUNT,
            "With static_dynamic, which trains --epochs with open gates first, the epochs of "
            "supervised pre-training behind those.",
        ),
    ),
}
TABLE = FlagTable(
    "ptkeras.train",
    [
        "Trains a network and makes it smaller meanwhile.",
        "",
        "  python -m ptkeras.train --flagfile=flags/digits_resnet20.flags",
        "",
        "Flags that come later win: those after --flagfile=FILE change what FILE says.",
    ],
    _SECTIONS,
    complete,
)
parse = TABLE.parse
_OF_ALL = ("Data and network", "Training", "Devices")
# The sections that a method reads beside those.
SECTIONS = {
    "dense": (),
    "prunetrain": ("PruneTrain",),
    "magnitude": ("Magnitude",),
    "pruning_from_scratch": ("Pruning from Scratch",),
    "eigendamage": ("EigenDamage",),
    "skipnet": ("SkipNet",),
    "static_dynamic": ("EigenDamage", "SkipNet"),
}


def read_by(method: str) -> list[str]:
    """The names of the flags that a method reads.

    Args:
        method: its name; of one that is not known, those that all methods read.
    """
    sections = (*_OF_ALL, *SECTIONS.get(method, ()))
    return [flag.name for title in sections for flag in _SECTIONS[title]]
