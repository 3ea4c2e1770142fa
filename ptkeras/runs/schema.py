"""The schema of what a run leaves: the forms of figures, and their rows of the summary."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

from ptkeras.utils.text import in_bytes, large, whole

if TYPE_CHECKING:
    from ptkeras.prunetrain import Reconfiguration

Form = Callable[[Any], bool]

_LARGEST = 1e30  # what is larger is no figure of a training, and no plot has room for it


def check(file: str, there: Mapping[str, Any], forms: Mapping[str, Form]) -> None:
    """Refuses figures that no run writes; those that are not there are none of them.

    Args:
        file: the name of the file, for the message.
        there: what is in it.
        forms: what a figure must look like, by its name.

    Raises:
        ValueError: If there are such.
    """
    for key, fits in forms.items():
        if key in there and not fits(there[key]):
            raise ValueError(f"{file} has {reprlib.repr(there[key])} as {key}")


def check_history(history: Mapping[str, list[float]], epochs: int) -> None:
    """Refuses a table that is not one row an epoch, or has numbers that no run writes.

    Args:
        history: the columns of `history.csv`.
        epochs: how many epochs were trained.

    Raises:
        ValueError: If it is one.
    """
    if history["epoch"] != list(range(1, epochs + 1)):
        there = reprlib.repr([f"{epoch:g}" for epoch in history["epoch"]])
        raise ValueError(f"history.csv has the epochs {there}, and result.json {epochs} of them")
    for name, column in history.items():
        most = 1.0 if name in ("accuracy", "val_accuracy") else _LARGEST
        for number in column:
            if not (abs(number) <= most or math.isnan(number)):
                raise ValueError(f"history.csv has {number:g} as {name}")


# Forms of values.


def between(least: float, most: float) -> Form:
    """Returns the form of a number in a range, to its ends."""

    def fits(value: Any) -> bool:
        is_one = isinstance(value, int | float) and not isinstance(value, bool)
        return is_one and least <= value <= most  # which NaN is not

    return fits


def by_name(fits: Form) -> Form:
    """Returns the form of an object whose values all have a form."""

    def all_fit(value: Any) -> bool:
        return isinstance(value, dict) and all(map(fits, value.values()))

    return all_fit


def list_of(fits: Form, count: int | None = None) -> Form:
    """Returns the form of a list whose items all have a form.

    Args:
        fits: the form of an item.
        count: the number of items; None for any.
    """

    def all_fit(value: Any) -> bool:
        is_list = isinstance(value, list) and count in (None, len(value))
        return is_list and all(map(fits, value))

    return all_fit


is_number, is_share = between(0, _LARGEST), between(0, 1)
is_pair = list_of(is_number, 2)  # of the dense network, and of the run's


def is_whole(value: Any) -> bool:
    """Says whether a value is a whole number from 0."""
    return is_number(value) and isinstance(value, int)


def is_text(value: Any) -> bool:
    """Says whether a value is a text that fits a line."""
    return isinstance(value, str) and value.isprintable() and 0 < len(value) < 1000


def _moment(value: Any) -> bool:
    forms = {"name": is_text, "epoch": is_whole, "counts": list_of(is_whole)}
    return isinstance(value, dict) and all(fits(value.get(key)) for key, fits in forms.items())


def _moments(value: Any) -> bool:
    if not list_of(_moment)(value):
        return False
    bins = {len(moment["counts"]) for moment in value}
    return len(bins) == 1 and 0 < bins.pop() <= 1000


# What is in the files.


class Network(TypedDict):
    """What a network costs, and its layers: an entry of `architecture.json`.

    Attributes:
        channels: the number of channels that may be removed.
        params: the number of parameters.
        inference_flops: the FLOPs of one forward pass of one image.
        training_flops: the FLOPs of a training step, per image.
        training_memory: the bytes that a training step needs.
        gradient_bytes: the bytes of gradient that devices exchange in a step.
        layers: the number of channels of each layer that makes some, by its path.
        macs: the multiply-accumulates of each layer that has some, by its path.
    """

    channels: int
    params: int
    inference_flops: int
    training_flops: int
    training_memory: int
    gradient_bytes: int
    layers: dict[str, int]
    macs: dict[str, int]


class _Changes(TypedDict):
    initial: Network
    reconfigurations: list[Reconfiguration]


class Architecture(_Changes, total=False):
    """What is in `architecture.json`.

    Attributes:
        initial: the first network.
        reconfigurations: the record of each reconfiguration.
        final: the last network, once the training is finished.
    """

    final: Network


class Moment(TypedDict):
    """The magnitudes of the channels at one time.

    Attributes:
        name: `"start"`, `"middle"` or `"end"`.
        epoch: the number of epochs trained.
        counts: the number of channels in each class of magnitudes.
    """

    name: str
    epoch: int
    counts: list[int]


class Norms(TypedDict):
    """What is in `norms.json`.

    Attributes:
        lowest: the power of ten that the first class begins with.
        per_decade: the number of classes to a power of ten.
        moments: the histograms, in the order of time.
    """

    lowest: float
    per_decade: float
    moments: list[Moment]


class Result(TypedDict):
    """What `result.json` has of every method; pairs are of the dense network and of the run's.

    Attributes:
        dataset: the name of the data set.
        model: the name of the network.
        method: the name of the method.
        seed: the seed of the run.
        epochs: the number of epochs trained.
        dense_epochs: the number of epochs of a dense training.
        accuracy: the accuracy on the test images.
        loss: the loss on the test images.
        training_flops: the pair of the FLOPs of the whole training.
        gradient_traffic: the pair of the bytes of gradient that devices exchange in it.
        inference_flops: the pair of the FLOPs of one forward pass of one image.
        params: the pair of the parameters.
        channels: the pair of the channels that may be removed.
        training_memory: the pair of the bytes that a training step needs.
        gradient_bytes: the pair of the bytes of gradient that devices exchange in a step.
        seconds: the seconds of all epochs.
    """

    dataset: str
    model: str
    method: str
    seed: int
    epochs: int
    dense_epochs: int
    accuracy: float
    loss: float
    training_flops: list[int]
    gradient_traffic: list[int]
    inference_flops: list[int]
    params: list[int]
    channels: list[int]
    training_memory: list[int]
    gradient_bytes: list[int]
    seconds: float


class Field(NamedTuple):
    """A figure of `result.json`, and its row of the summary.

    Attributes:
        key: its name there.
        form: what it must look like.
        row: the name of its row; "" if it has none.
        text: writes a number of it.
        after: the figure of all methods after whose row its own comes.
        dense: the pair of figures to whose first it is compared; "" if it is a pair itself, or
            compared to nothing.
    """

    key: str
    form: Form
    row: str = ""
    text: Callable[[float], str] = str
    after: str = "gradient_traffic"
    dense: str = ""


# The forms of the figures of all methods.
FIELDS = (
    *(Field(name, is_text) for name in ("dataset", "model", "method")),
    *(Field(name, is_whole) for name in ("seed", "dense_epochs")),
    Field("accuracy", is_share, "test accuracy", "{:.2%}".format),
    Field("training_flops", is_pair, "training FLOPs", large),
    Field("inference_flops", is_pair, "inference FLOPs", large),
    Field("params", is_pair, "parameters", whole),
    Field("channels", is_pair, "channels", whole),
    Field("training_memory", is_pair, "memory of a training step", in_bytes),
    Field("gradient_traffic", is_pair, "gradient traffic", in_bytes),
    Field("epochs", is_whole, "epochs"),
    Field("seconds", is_number, "seconds", whole),
    # Of a dense run beside this one, and what its own dense epochs make of its seconds.
    Field("dense_accuracy", is_share),
    Field("dense_seconds", is_number),
    Field("dense_estimate", is_number),
)
COSTS = ("channels", "params", "inference_flops")
NETWORK: dict[str, Form] = {"layers": by_name(is_whole), "macs": by_name(is_number)}
CHANGE: dict[str, Form] = {
    **dict.fromkeys(COSTS, is_pair),
    "layers": by_name(list_of(is_whole, 2)),
    "epoch": is_whole,
    "seconds": is_number,
}
NORMS: dict[str, Form] = {
    "lowest": between(-100, 100),
    "per_decade": between(5, 1000),
    "moments": _moments,
}


def forms_of(fields: Iterable[Field]) -> dict[str, Form]:
    """Returns the forms of figures by their names, as `check` takes them."""
    return {field.key: field.form for field in fields}
