"""Budgets: how much of a model's cost is to go, and which channels that takes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import keras
import numpy as np

from ptkeras import importance
from ptkeras.channels import ChannelMap
from ptkeras.channels.layer_names import find_layer, layers_meant, made_by
from ptkeras.cost.prediction import Prediction, params, weighted_macs
from ptkeras.importance import Criterion
from ptkeras.pruning.plan import ROUNDING, Plan, Scope
from ptkeras.surgery.reconfigure import without
from ptkeras.utils.arguments import check_count, check_number, check_share

Cost = Literal["channels", "flops", "params", "latency"] | Mapping[str, float]

_CRITERIA: dict[str, Criterion] = {
    "l1": importance.l1,
    "l2": importance.l2,
    "batch_norm": importance.batch_norm_scale,
    "random": importance.random(),
}


@dataclasses.dataclass(frozen=True)
class Request:
    """What is to go of a model, checked; see `ptkeras.prune` for the fields.

    Attributes:
        caller: whose arguments they are, for messages, such as "ptkeras.prune".
    """

    caller: str
    model: keras.Model
    share: float
    of: Any
    criterion: Criterion
    scope: Scope
    overrides: Mapping[str, float]
    leave_alone: Any
    channel_multiple: int
    min_channels: int
    input_shape: Any

    def __post_init__(self) -> None:
        check_share(f"share of {self.caller}", self.share)
        named = isinstance(self.of, str) and self.of in ("channels", "flops", "params", "latency")
        check(
            self.caller,
            "of",
            self.of,
            named or isinstance(self.of, Mapping),
            '"channels", "flops", "params", "latency" or a dict of weights by layer name or kind',
        )
        scopes = ("global", "layer", "group")
        check(
            self.caller, "scope", self.scope, self.scope in scopes, '"global", "layer" or "group"'
        )
        wanted = "a dict of shares by layer name"
        check(self.caller, "overrides", self.overrides, isinstance(self.overrides, Mapping), wanted)
        for name, value in self.overrides.items():
            check_share(f"override of '{name}' of {self.caller}", value)
        wanted = "a list of layer names"
        names = np.iterable(self.leave_alone) and not isinstance(self.leave_alone, str)
        check(self.caller, "leave_alone", self.leave_alone, names, wanted)
        object.__setattr__(self, "leave_alone", tuple(self.leave_alone))  # it is read many times
        for name in ("channel_multiple", "min_channels"):
            count = check_count(f"{name} of {self.caller}", getattr(self, name))
            object.__setattr__(self, name, count)
        if both := set(self.overrides) & set(self.leave_alone):
            raise ValueError(
                f"'{min(both)}' is both in overrides and in leave_alone: take it out of one."
            )


class Budget:
    """A share of a model's cost, and the keep masks that lead to it.

    Args:
        request: what is to go.
        channel_map: the channels of the model as it is before anything goes: shares are of that.

    Attributes:
        request: `request`, with the layers of a nested model in its place.
        cost: what the model costs before anything goes.

    Raises:
        ValueError: If a layer is not there, or the cost is 0.
    """

    def __init__(self, request: Request, channel_map: ChannelMap) -> None:
        _check_weights(request, channel_map)
        self.request = request = _by_layer(request, channel_map)
        self.cost = self.remaining(channel_map)(np.ones(len(channel_map), bool))
        if request.share and not self.cost:
            raise ValueError(
                f"'{request.model.name}' has nothing that {request.caller} could take a share of: "
                f"of={request.of!r} counts none of its layers; count others."
            )
        chosen = _overridden(request, channel_map)
        self.overridden = {name: len(channels) for name, channels in chosen.items()}

    def keep(
        self,
        channel_map: ChannelMap,
        progress: float = 1.0,
        fixed: np.ndarray | None = None,
        fill: bool = False,
        gone: np.ndarray | None = None,
    ) -> np.ndarray:
        """Returns the keep mask for a part of the way from the dense model to the target.

        Args:
            channel_map: the channels of the model as it is now.
            progress: the part of the share that is to be gone, up to 1.
            fixed: a bool per channel, those that stay whatever their score; None for none.
            fill: whether channels come back, the best first, as long as the target is met.
            gone: a bool per channel, those that go whatever their score; None for none.

        Raises:
            ValueError: If the target is out of reach.
        """
        request = self.request
        left_alone = _left_alone(request, channel_map)
        plan = Plan(
            channel_map,
            request.criterion,
            request.scope,
            left_alone if fixed is None else left_alone | fixed,
            self._quotas(channel_map, progress),
            multiple=request.channel_multiple,
            least=request.min_channels,
            gone=gone,
        )
        if request.share == 0:
            return plan.keep(0)
        remaining = self.remaining(channel_map)
        goal = self.cost * (1 - request.share * progress + ROUNDING)
        keep = plan.fit(remaining, goal)
        if keep is None:
            raise ValueError(self._out_of_reach(remaining(plan.keep(len(plan.order)))))
        # Where a cost is counted on the graph as it would be, a search would take hours.
        return plan.filled(keep, remaining, goal) if fill and self._is_quick else keep

    def _quotas(self, channel_map: ChannelMap, progress: float) -> dict[str, tuple]:
        quotas = {}
        for name, channels in _overridden(self.request, channel_map).items():
            share = self.request.overrides[name] * progress
            stay = math.floor(self.overridden[name] * (1 - share + ROUNDING))
            quotas[name] = (channels, max(0, len(channels) - stay))
        return quotas

    def _out_of_reach(self, least: float) -> str:
        request = self.request
        most = math.floor((1 - least / self.cost) * 1000) / 1000
        what = request.of if isinstance(request.of, str) else "latency"
        return (
            f"The share of the {what} of '{request.model.name}' that may go is {most} at most, and "
            f"{request.share:.12g} was asked for: ask for less, or loosen overrides, leave_alone, "
            "channel_multiple or min_channels."
        )

    def remaining(self, channel_map: ChannelMap) -> Callable[[np.ndarray], float]:
        """Returns what a keep mask leaves of the cost that the target is a share of."""
        request, self._is_quick = self.request, True
        if request.of == "channels":
            counted = ~channel_map.frozen & ~_left_alone(request, channel_map)
            for channels in _overridden(request, channel_map).values():
                counted[channels] = False
            return lambda keep: int(keep[counted].sum())
        if request.of == "params":
            return lambda keep: params(channel_map, keep)
        weights = None if request.of == "flops" else request.of
        prediction = Prediction(channel_map, request.input_shape)
        if prediction.exact:
            return lambda keep: prediction.weighted_macs(keep, weights)

        self._is_quick = False

        # Products without a kernel (attention scores) are counted on the graph as it would be.
        def left(keep: np.ndarray) -> float:
            with without(channel_map, keep) as smaller:
                return weighted_macs(smaller, weights, request.input_shape)

        return left


def _by_layer(request: Request, channel_map: ChannelMap) -> Request:
    """The request with the layers of a nested model in its place."""
    meant = layers_meant(channel_map, [*request.overrides, *request.leave_alone])
    overrides = {
        x: request.overrides[name] for x, name in meant.items() if name in request.overrides
    }
    leave_alone = [layer for layer, name in meant.items() if name in request.leave_alone]
    return dataclasses.replace(request, overrides=overrides, leave_alone=leave_alone)


def _left_alone(request: Request, channel_map: ChannelMap) -> np.ndarray:
    """A bool per channel: whether it is of a layer that is to be left alone."""
    result = np.zeros(len(channel_map), bool)
    for name in request.leave_alone:
        made = made_by(channel_map, find_layer(channel_map, name))
        result[made[made >= 0]] = True
    return result


def _overridden(request: Request, channel_map: ChannelMap) -> dict[str, np.ndarray]:
    """For each layer with an override those of its channels that may go."""
    result = {}
    owner: dict[int, str] = {}
    for name, share in request.overrides.items():
        made = np.unique(made_by(channel_map, find_layer(channel_map, name)))
        made = made[made >= 0]
        result[name] = made[~channel_map.frozen[made]]
        for channel in result[name].tolist():
            other = owner.setdefault(channel, name)
            if request.overrides[other] != share:
                raise ValueError(
                    f"The layers '{other}' and '{name}' share channels, so they cannot lose "
                    f"{request.overrides[other]} and {share} of them: give both the same override."
                )
    return result


def _check_weights(request: Request, channel_map: ChannelMap) -> None:
    """Refuses weights of latency that are no weights, or of layers that are not there."""
    if not isinstance(request.of, Mapping):
        return
    layers = [layer for _, layer in Prediction(channel_map, request.input_shape).layers]
    known = {layer.name for layer in layers} | {type(layer).__name__ for layer in layers}
    for name, weight in request.of.items():
        check_number(
            f"weight of '{name}' of {request.caller}", weight, lambda w: w >= 0, "0 or more"
        )
        if name not in known:
            raise ValueError(
                f"'{request.model.name}' has no layer that is named or of the kind {name!r}: weigh "
                f"layers by name, or by kind, such as {', '.join(sorted(known)[:3])}."
            )


def criterion_of(criterion: Any, caller: str) -> Criterion:
    """Returns the criterion that a name stands for.

    Args:
        criterion: a name, or a function of a `ChannelMap`, which is returned as it is.
        caller: whose argument it is.

    Raises:
        ValueError: If it is neither.
    """
    if callable(criterion):
        return criterion
    hint = ", ".join(f'"{name}"' for name in _CRITERIA)
    if criterion == "taylor":
        raise ValueError(
            'The criterion "taylor" needs data: pass criterion=ptkeras.importance.taylor(x, y).'
        )
    known = isinstance(criterion, str) and criterion in _CRITERIA
    check(caller, "criterion", criterion, known, f"one of {hint}, or a function of a ChannelMap")
    return _CRITERIA[criterion]


def check(caller: str, name: str, value: Any, right: bool, wanted: str) -> None:
    """Raises a ValueError unless an argument is right."""
    if not right:
        raise ValueError(f"The {name} of {caller} must be {wanted}; received {value!r}.")
