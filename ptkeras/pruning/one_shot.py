"""One-shot pruning, for a model that is trained already.

```python
report = ptkeras.prune(model, 0.5, of="flops")
print(report)
model.fit(x, y, epochs=5)
```
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import keras
import numpy as np

from ptkeras import importance, latency
from ptkeras.channels import ChannelMap, trace
from ptkeras.channels.layer_names import find_layer, layers_meant, made_by
from ptkeras.cost.prediction import Prediction, params, weighted_macs
from ptkeras.importance import Criterion
from ptkeras.pruning.plan import ROUNDING, Plan, Scope
from ptkeras.pruning.report import LayerChange, PruneReport, Survey
from ptkeras.surgery import reconfigure
from ptkeras.surgery.reconfigure import copy_of, trace_like, without
from ptkeras.utils.arguments import check_count, check_number, check_share

__all__ = ["LayerChange", "PruneReport", "prune", "remove_channels"]

Cost = Literal["channels", "flops", "params", "latency"] | Mapping[str, float]

_CRITERIA: dict[str, Criterion] = {
    "l1": importance.l1,
    "l2": importance.l2,
    "batch_norm": importance.batch_norm_scale,
    "random": importance.random(),
}


def prune(
    model: keras.Model,
    share: float,
    of: Cost = "channels",
    *,
    criterion: str | Criterion = "l2",
    scope: Scope = "global",
    overrides: Mapping[str, float] | None = None,
    leave_alone: Iterable[str] = (),
    channel_multiple: int = 1,
    min_channels: int = 1,
    steps: int = 1,
    finetune: Callable[[keras.Model, int], Any] | None = None,
    dry_run: bool = False,
    input_shape: Any = None,
    exact: bool = True,
    copy: bool = False,
) -> PruneReport:
    """Removes the least important channels of a trained model, in place or from a copy of it.

    ```python
    ptkeras.prune(model, 0.5)                                             # half of the channels
    ptkeras.prune(model, 0.5, of="flops", channel_multiple=8)
    ptkeras.prune(model, 0.3, of="params", criterion=ptkeras.importance.taylor(x, y))
    ptkeras.prune(model, 0.3, of="latency")
    ptkeras.prune(model, 0.5, scope="layer", overrides={"conv1": 0.2}, leave_alone=["conv2"])
    ptkeras.prune(model, 0.7, steps=5, finetune=lambda model, step: model.fit(x, y))
    print(ptkeras.prune(model, 0.5, dry_run=True))                        # changes nothing
    small = ptkeras.prune(model, 0.5, copy=True).model                    # leaves `model` as it is
    ```

    Channels go one after the other, the lowest score first, until what is left of the cost is at
    most `(1 - share)` of what the model had: with one channel more the target would be missed
    (with a `channel_multiple`, one group of channels). At least one channel of every layer stays.
    The model that the caller holds is the pruned one, with its weights and, if it is compiled, its
    optimizer and every slot of it.

    Args:
        model: a built model of any kind: Functional, Sequential, with layers that hold layers, or a
            subclass of `keras.Model`.
        share: how much is to go, from 0 and under 1.
        of: what `share` is a share of: `"channels"`, those that may go, without those of layers
            in `overrides` and `leave_alone`; `"flops"`, the FLOPs of one forward pass; `"params"`,
            the number of parameters; or the latency Σ weight · MACs over the layers, with weights
            by layer name or kind as a dict (layers that it does not name weigh 0) such as
            `{"Conv2D": 1.0, "DepthwiseConv2D": 6.0}`, or `"latency"` for those that
            `ptkeras.latency.measure(model)` finds on this machine.
        criterion: `"l1"`, `"l2"`, `"batch_norm"`, `"random"`, or a function of a `ChannelMap` that
            returns a score per channel, such as `ptkeras.importance.taylor(x, y)`, `kron_obd(x)`,
            `kron_obs(x)` or `random(seed)`. Channels of infinite score stay.
        scope: what is ranked together. `"global"`: all channels, their scores divided by the mean
            of those that are made together (by one layer, or by layers whose channels are tied).
            `"layer"`: the channels of each layer by themselves, so that all layers lose the same
            share; tied channels count in the first layer that makes them. `"group"`: likewise,
            with all layers whose channels are tied, wholly or in part, as one.
        overrides: for a layer's name or path the share of its channels that goes, of those that
            may, whatever `share` is; a nested model stands for all of its layers.
        leave_alone: names or paths of layers that lose no channel that they make, filter or scale;
            a nested model stands for all of its layers.
        channel_multiple: what the number of a layer's channels stays a multiple of, where it has
            as many; 8 suits tensor cores.
        min_channels: the least number of channels a layer keeps.
        steps: the number of prunings on the way to the target, each by fresh scores.
        finetune: `finetune(model, step)` is called after every pruning, with steps from 1.
        dry_run: whether to leave the model as it is and say what would go, in one step.
        input_shape: shape of one example, for a model that leaves sizes open.
        exact: see `ptkeras.channels.trace`; False prunes through layer normalisation too.
        copy: whether `model` stays what it is and a copy of it is pruned, with weights and, if it
            is compiled, an optimizer of its own. The report has it as `model`.

    Returns:
        The report, a table per layer; `str` and `rich.print` show it.

    Raises:
        ValueError: an argument is out of its range, a layer is not there, or the target is out of
            reach. The model is as it was, unless a later step has a criterion that fails.
    """
    request = _Request(
        model=model,
        share=share,
        of=of,
        criterion=_criterion(criterion),
        scope=scope,
        overrides={} if overrides is None else overrides,
        leave_alone=leave_alone,
        channel_multiple=channel_multiple,
        min_channels=min_channels,
        steps=steps,
        input_shape=input_shape,
    )
    _check("finetune", finetune, finetune is None or callable(finetune), "callable or None")
    channel_map = trace(model, exact=exact, input_shape=input_shape)
    if copy and not dry_run:
        model = copy_of(model)
        channel_map = trace_like(channel_map, model)
        request = dataclasses.replace(request, model=model)
    if of == "latency":
        request = dataclasses.replace(request, of=latency.measure(model, input_shape=input_shape))
    _check_weights(request, channel_map)
    request = _by_layer(request, channel_map)
    start = _Start(request, channel_map)
    before = _survey(channel_map, input_shape)
    # The whole way is planned before the first step: what is out of reach is told of at once.
    keep = _decide(request, channel_map, start, 1.0)
    if dry_run:
        after = before.left_by(keep)
        if not after.exact:
            with without(channel_map, keep) as smaller:
                after = _survey(trace(smaller, input_shape=input_shape), input_shape)
        return before.report(after, None, keep)
    for step in range(1, steps + 1):
        if steps > 1:
            channel_map = channel_map if step == 1 else trace_like(channel_map, model)
            keep = _decide(request, channel_map, start, step / steps)
        if step == steps:
            after = (before if step == 1 else _survey(channel_map, input_shape)).left_by(keep)
        reconfigure(model, keep, channel_map=channel_map)
        if finetune is not None:
            finetune(model, step)
    if not after.exact:
        after = _survey(trace_like(channel_map, model), input_shape)
    return before.report(after, model)


def remove_channels(
    model: keras.Model,
    channels: Mapping[str, Iterable[int]],
    *,
    exact: bool = True,
    copy: bool = False,
) -> keras.Model:
    """Removes named channels of named layers, and all that is tied to them, in place or in a copy.

    ```python
    ptkeras.remove_channels(model, {"conv1": [0, 3], "conv2": range(8)})
    ```

    Args:
        model: a built model of any kind.
        channels: for a layer's name or path the positions of the channels, counted from 0.
        exact: see `ptkeras.channels.trace`; False lets channels go through layer normalisation.
        copy: whether `model` stays what it is and a smaller copy is returned.

    Returns:
        `model`, or the copy.

    Raises:
        ValueError: a layer or channel is not there, may not go, or the network cannot do without
            all of them; the model is as it was.
    """
    channel_map = trace(model, exact=exact)
    keep = np.ones(len(channel_map), bool)
    for name, positions in _named_positions(channels):
        made = made_by(channel_map, find_layer(channel_map, name))
        for position in positions:
            whole = isinstance(position, int | np.integer) and not isinstance(position, bool)
            if not whole or not 0 <= position < len(made):
                raise ValueError(
                    f"Layer '{name}' of '{model.name}' has no channel {position!r}: its channels "
                    f"are numbered from 0 to {len(made) - 1}."
                )
            cause = "padding" if made[position] < 0 else channel_map.why_frozen(made[position])
            if cause is not None:
                raise ValueError(f"Channel {position} of layer '{name}' may not go: it is {cause}.")
        keep[made[positions]] = False
    return reconfigure(model, keep, channel_map=channel_map, copy=copy)


def _named_positions(channels: Any) -> list[tuple[str, list[Any]]]:
    """The layer names and positions of `remove_channels`, if that is what they are."""
    wanted = isinstance(channels, Mapping) and not any(
        isinstance(positions, str) or not np.iterable(positions) for positions in channels.values()
    )
    if not wanted:
        raise ValueError(
            "The channels of ptkeras.remove_channels must be a dict with a list of positions for "
            f'each layer name, such as {{"conv1": [0, 3]}}; received {channels!r}.'
        )
    return [(name, list(positions)) for name, positions in channels.items()]


@dataclasses.dataclass(frozen=True)
class _Request:
    """The arguments of `prune`, checked."""

    model: keras.Model
    share: float
    of: Any
    criterion: Criterion
    scope: Scope
    overrides: Mapping[str, float]
    leave_alone: Any
    channel_multiple: int
    min_channels: int
    steps: int
    input_shape: Any

    def __post_init__(self) -> None:
        check_share("share of ptkeras.prune", self.share)
        named = isinstance(self.of, str) and self.of in ("channels", "flops", "params", "latency")
        _check(
            "of",
            self.of,
            named or isinstance(self.of, Mapping),
            '"channels", "flops", "params", "latency" or a dict of weights by layer name or kind',
        )
        scopes = ("global", "layer", "group")
        _check("scope", self.scope, self.scope in scopes, '"global", "layer" or "group"')
        wanted = "a dict of shares by layer name"
        _check("overrides", self.overrides, isinstance(self.overrides, Mapping), wanted)
        for name, value in self.overrides.items():
            check_share(f"override of '{name}' of ptkeras.prune", value)
        wanted = "a list of layer names"
        names = np.iterable(self.leave_alone) and not isinstance(self.leave_alone, str)
        _check("leave_alone", self.leave_alone, names, wanted)
        object.__setattr__(self, "leave_alone", tuple(self.leave_alone))  # it is read many times
        for name in ("channel_multiple", "min_channels", "steps"):
            count = check_count(f"{name} of ptkeras.prune", getattr(self, name))
            object.__setattr__(self, name, count)
        if both := set(self.overrides) & set(self.leave_alone):
            raise ValueError(
                f"'{min(both)}' is both in overrides and in leave_alone: take it out of one."
            )


class _Start:
    """What shares are shares of: the model before the first step."""

    def __init__(self, request: _Request, channel_map: ChannelMap) -> None:
        everything = np.ones(len(channel_map), bool)
        self.cost = _remaining(request, channel_map)(everything)
        if request.share and not self.cost:
            raise ValueError(
                f"'{request.model.name}' has nothing that ptkeras.prune could take a share of: of="
                f"{request.of!r} counts none of its layers; count others, or ask for a share of 0."
            )
        chosen = _overridden(request, channel_map)
        self.overridden = {name: len(channels) for name, channels in chosen.items()}


def _decide(
    request: _Request, channel_map: ChannelMap, start: _Start, progress: float
) -> np.ndarray:
    """The keep mask for a part of the way from the dense model to the target."""
    quotas = {}
    for name, channels in _overridden(request, channel_map).items():
        first = start.overridden[name]
        stay = math.floor(first * (1 - request.overrides[name] * progress + ROUNDING))
        quotas[name] = (channels, max(0, len(channels) - stay))
    plan = Plan(
        channel_map,
        request.criterion,
        request.scope,
        _left_alone(request, channel_map),
        quotas,
        multiple=request.channel_multiple,
        least=request.min_channels,
    )
    if request.share == 0:
        return plan.keep(0)
    remaining = _remaining(request, channel_map)
    keep = plan.fit(remaining, start.cost * (1 - request.share * progress + ROUNDING))
    if keep is None:
        least = remaining(plan.keep(len(plan.order)))
        most = 1 - least / start.cost if start.cost else 0.0
        what = request.of if isinstance(request.of, str) else "latency"
        raise ValueError(
            f"The share of the {what} of '{request.model.name}' that may go is "
            f"{math.floor(most * 1000) / 1000} at most, and {request.share} was asked for: ask for "
            "less, or loosen overrides, leave_alone, channel_multiple or min_channels."
        )
    return keep


def _remaining(request: _Request, channel_map: ChannelMap) -> Callable[[np.ndarray], float]:
    """What a keep mask leaves of the cost that the target is a share of."""
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

    # Products without a kernel (attention scores) are counted on the graph as it would be.
    def left(keep: np.ndarray) -> float:
        with without(channel_map, keep) as smaller:
            return weighted_macs(smaller, weights, request.input_shape)

    return left


def _by_layer(request: _Request, channel_map: ChannelMap) -> _Request:
    """The request with the layers of a nested model in its place."""
    meant = layers_meant(channel_map, [*request.overrides, *request.leave_alone])
    overrides = {
        x: request.overrides[name] for x, name in meant.items() if name in request.overrides
    }
    leave_alone = [layer for layer, name in meant.items() if name in request.leave_alone]
    return dataclasses.replace(request, overrides=overrides, leave_alone=leave_alone)


def _left_alone(request: _Request, channel_map: ChannelMap) -> np.ndarray:
    """A bool per channel: whether it is of a layer that is to be left alone."""
    result = np.zeros(len(channel_map), bool)
    for name in request.leave_alone:
        made = made_by(channel_map, find_layer(channel_map, name))
        result[made[made >= 0]] = True
    return result


def _overridden(request: _Request, channel_map: ChannelMap) -> dict[str, np.ndarray]:
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


def _check_weights(request: _Request, channel_map: ChannelMap) -> None:
    """Refuses weights of latency that are no weights, or of layers that are not there."""
    if not isinstance(request.of, Mapping):
        return
    layers = [layer for _, layer in Prediction(channel_map, request.input_shape).layers]
    known = {layer.name for layer in layers} | {type(layer).__name__ for layer in layers}
    for name, weight in request.of.items():
        check_number(f"weight of '{name}' of ptkeras.prune", weight, lambda w: w >= 0, "0 or more")
        if name not in known:
            raise ValueError(
                f"'{request.model.name}' has no layer that is named or of the kind {name!r}: weigh "
                f"layers by name, or by kind, such as {', '.join(sorted(known)[:3])}."
            )


def _survey(channel_map: ChannelMap, input_shape: Any) -> Survey:
    return Survey(channel_map, np.ones(len(channel_map), bool), input_shape)


def _criterion(criterion: Any) -> Criterion:
    if callable(criterion):
        return criterion
    hint = ", ".join(f'"{name}"' for name in _CRITERIA)
    if criterion == "taylor":
        raise ValueError(
            'The criterion "taylor" needs data: pass criterion=ptkeras.importance.taylor(x, y).'
        )
    known = isinstance(criterion, str) and criterion in _CRITERIA
    _check("criterion", criterion, known, f"one of {hint}, or a function of a ChannelMap")
    return _CRITERIA[criterion]


def _check(name: str, value: Any, right: bool, wanted: str) -> None:
    if not right:
        raise ValueError(f"The {name} of ptkeras.prune must be {wanted}; received {value!r}.")
