"""One-shot pruning, for a model that is trained already.

```python
report = ptkeras.prune(model, 0.5, of="flops")
print(report)
model.fit(x, y, epochs=5)
```
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import keras
import numpy as np

from ptkeras import latency
from ptkeras.channels import ChannelMap, trace
from ptkeras.channels.layer_names import find_layer, made_by
from ptkeras.importance import Criterion
from ptkeras.pruning.budget import Budget, Cost, Request, check, criterion_of
from ptkeras.pruning.plan import Scope
from ptkeras.pruning.report import LayerChange, PruneReport, Survey
from ptkeras.surgery import reconfigure
from ptkeras.surgery.reconfigure import copy_of, trace_like, without
from ptkeras.utils.arguments import check_count

__all__ = ["LayerChange", "PruneReport", "prune", "remove_channels"]

CALLER = "ptkeras.prune"


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
    request = Request(
        caller=CALLER,
        model=model,
        share=share,
        of=of,
        criterion=criterion_of(criterion, CALLER),
        scope=scope,
        overrides={} if overrides is None else overrides,
        leave_alone=leave_alone,
        channel_multiple=channel_multiple,
        min_channels=min_channels,
        input_shape=input_shape,
    )
    steps = check_count(f"steps of {CALLER}", steps)
    check(CALLER, "finetune", finetune, finetune is None or callable(finetune), "callable or None")
    channel_map = trace(model, exact=exact, input_shape=input_shape)
    if copy and not dry_run:
        model = copy_of(model)
        channel_map = trace_like(channel_map, model)
        request = dataclasses.replace(request, model=model)
    if of == "latency":
        request = dataclasses.replace(request, of=latency.measure(model, input_shape=input_shape))
    budget = Budget(request, channel_map)
    before = _survey(channel_map, input_shape)
    # The whole way is planned before the first step: what is out of reach is told of at once.
    keep = budget.keep(channel_map)
    if dry_run:
        after = before.left_by(keep)
        if not after.exact:
            with without(channel_map, keep) as smaller:
                after = _survey(trace(smaller, input_shape=input_shape), input_shape)
        return before.report(after, None, keep)
    for step in range(1, steps + 1):
        if steps > 1:
            channel_map = channel_map if step == 1 else trace_like(channel_map, model)
            keep = budget.keep(channel_map, step / steps)
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


def _survey(channel_map: ChannelMap, input_shape: Any) -> Survey:
    return Survey(channel_map, np.ones(len(channel_map), bool), input_shape)
