"""What the tools have in common: flags, the model to export, and errors as one sentence."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptkeras.utils.flagging import (
    COUNT,
    SWITCH,
    TEXT,
    Flag,
    FlagTable,
    Parser,
    Settings,
    SettingsError,
    asks_for_help,
    choice,
    fail,
    is_ours,
    texts,
    whole,
    wholes,
)

if TYPE_CHECKING:
    from ptkeras.export import Artifact

_NUMBERS = Parser(
    lambda text: [float(item) for item in texts(text)],
    "numbers with commas between them, such as 125.3,123,113.9",
    lambda numbers: all(map(math.isfinite, numbers)),
)
_SIZES = Parser(
    wholes,
    "whole numbers from 1 with commas between them, such as 224,224,3",
    lambda sizes: all(size >= 1 for size in sizes),
)

FILES = (
    Flag("model", None, TEXT, "The .keras file to export, such as model.keras in a run folder."),
    Flag("output", None, TEXT, "What to write; something of that name and format is replaced."),
)
CONTENTS = (
    Flag(
        "labels",
        [],
        Parser(texts, "names with commas between them, or a file"),
        "Names of the classes for the metadata: with commas between them, or the name of a text "
        "file with one a line. Left out, those of --dataset.",
    ),
    Flag("softmax", False, SWITCH, "Whether to put a softmax behind the outputs."),
    Flag("mean", [], _NUMBERS, "What to subtract from each channel of the input."),
    Flag(
        "std",
        [],
        _NUMBERS,
        "What to divide each channel by then: with the figures that the training images were "
        "scaled by, the export takes raw pixels.",
    ),
    Flag(
        "input_shape",
        [],
        _SIZES,
        "Shape of one example, such as 224,224,3, for a model that leaves sizes open.",
    ),
    Flag("batch_size", None, COUNT, "The only batch size it takes; left out, any."),
)
PRECISION = (
    Flag(
        "precision",
        "float32",
        choice("float32", "float16", "int8"),
        "float32, float16 or int8. int8 is calibrated on --dataset.",
    ),
    Flag(
        "dataset",
        None,
        TEXT,
        "Data set to calibrate int8 on: digits, which comes along, or one of TFDS that lies "
        "prepared in --data_dir. Its images are scaled as they are for training, by the export "
        "itself if it has --mean or --std; its labels, and or how to scale, go into the metadata.",
    ),
    Flag("data_dir", None, TEXT, "Data directory of TFDS; left out, TFDS's default."),
    Flag("examples", 256, COUNT, "How many training images to calibrate on."),
)
OPSET = Flag(
    "opset",
    17,
    Parser(whole, "a whole number from 13 to 18", lambda n: 13 <= n <= 18),
    "Version of ONNX's operations, 13 to 18.",
)


def run(table: FlagTable, act: Callable[[Settings], None], arguments: Sequence[str] | None) -> int:
    """Runs a tool.

    Args:
        table: its flags.
        act: what it does.
        arguments: the flags; None for those of the process.

    Returns:
        The exit status: 0, 1 where one sentence on standard error says what is wrong, or 130 after
        Ctrl-C.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if asks_for_help(arguments):
        print(table.help_text())
        return 0
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's notes on its own insides
    try:
        act(table.parse(arguments))
    except SettingsError as error:
        return fail(str(error))
    except OSError as error:
        return fail(f"A file could not be read or written: {error}.")
    except KeyboardInterrupt:
        return fail("Stopped; nothing was written.") + 129
    except Exception as error:
        from ptkeras.export import ExportError

        ours = isinstance(error, ExportError) or (isinstance(error, ValueError) and is_ours(error))
        if not ours:
            raise
        return fail(str(error))
    return 0


def required(settings: Settings, *names: str) -> None:
    """Raises a SettingsError unless flags without a default are given."""
    for name in names:
        if not getattr(settings, name):
            raise SettingsError(f"flag --{name}: must be given; --help says what it is.")


def export(settings: Settings, write: Callable[..., Artifact], **options: Any) -> None:
    """Loads the model, exports it with `write`, and prints what came out.

    Args:
        settings: the flags.
        write: a function of `ptkeras.export`.
        **options: what only this format has.
    """
    from ptkeras.export import load_model
    from ptkeras.export.run import metadata

    model = load_model(settings.model)
    told = metadata(Path(settings.model).parent)
    labels = _labels(settings.labels)
    if "precision" in settings and settings.dataset:
        dataset = _dataset(settings)
        labels = labels or list(dataset.labels)
        raw = bool(settings.mean or settings.std)
        if not raw:
            told |= {"mean": dataset.mean, "std": dataset.std}
        if settings.precision == "int8":
            options["calibration"] = _images(dataset, settings.examples, raw)
    artifact = write(
        model,
        settings.output,
        softmax=settings.softmax,
        mean=settings.mean or None,
        std=settings.std or None,
        labels=labels or None,
        input_shape=tuple(settings.input_shape) or None,
        batch_size=settings.batch_size,
        metadata=told,
        **options,
    )
    print(artifact.summary)


def check_precision(settings: Settings) -> None:
    """Raises a SettingsError for int8 without something to calibrate it on."""
    if settings.precision == "int8" and not settings.dataset:
        raise SettingsError(
            "flag --precision=int8: needs --dataset to calibrate on, such as --dataset=digits."
        )


def _labels(given: list[str]) -> list[str]:
    if len(given) == 1 and Path(given[0]).is_file():
        try:
            lines = Path(given[0]).read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            raise SettingsError(f"flag --labels={given[0]}: must be a text file.") from None
        return [line.strip() for line in lines if line.strip()]
    return given


def _dataset(settings: Settings) -> Any:
    from ptkeras import data

    return data.load(
        settings.dataset, batch_size=32, data_dir=settings.data_dir, seed=0, augment=False
    )


def _images(dataset: Any, count: int, raw: bool) -> Any:
    """Training images: scaled as for training, or pixels for an export that scales them itself."""
    import numpy as np

    batches = []
    for images, _ in dataset.train.as_numpy_iterator():
        batches.append(images)
        if sum(map(len, batches)) >= count:
            break
    images = np.concatenate(batches)[:count]
    return images * np.float32(dataset.std) + np.float32(dataset.mean) if raw else images
