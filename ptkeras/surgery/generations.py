"""Weights that were taken from a model before it shrank can be put back into it.

`EarlyStopping(restore_best_weights=True)` keeps `model.get_weights()` of the best epoch, and gives
it to `model.set_weights` at the end. If the network has shrunk in between, they no longer fit;
here they bring the network back that they belong to.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import keras

from ptkeras.channels.graph import has_graph
from ptkeras.keras_compat.optimizers import steps_counter_of
from ptkeras.surgery.adopt import adopt, graph_config, graph_from_config
from ptkeras.surgery.changes import Changes
from ptkeras.surgery.functions import refresh_functions
from ptkeras.surgery.holders import holders_of
from ptkeras.surgery.optimizers import learn_keys
from ptkeras.surgery.places import by_place
from ptkeras.surgery.reconfigure import scope_of
from ptkeras.surgery.twins import renew


class Weights(list):
    """A list of weights that remembers which of a model's networks they are of.

    Attributes:
        generation: the number of times that the network had shrunk.
        owner: the `Generations` that counted.
    """

    generation: int = 0
    owner: Any = None


@dataclasses.dataclass
class Former:
    """A network that a model was.

    Attributes:
        generation: the number of times that it had shrunk.
        changes: the log that brings it back, by `undo`.
    """

    generation: int
    changes: Changes


class Generations:
    """Remembers what a model was before each reconfiguration.

    Args:
        model: the model; its `get_weights` and `set_weights` are wrapped.

    Attributes:
        on_return: what is called when weights have brought an earlier network back; None for
            nothing.
    """

    def __init__(self, model: keras.Model) -> None:
        self.model = model
        self.configs: dict[int, dict] = {}
        self.generation = 0
        self._wanted: set[int] = set()
        self._former: list[Former] = []
        self.on_return: Callable[[], object] | None = None
        model.get_weights = self._get_weights
        model.set_weights = self._set_weights

    @staticmethod
    def of(model: keras.Model) -> Generations | None:
        """Those of a model, None if nobody counts them."""
        owner = getattr(model.get_weights, "__self__", None)
        return owner if isinstance(owner, Generations) else None

    def weights_of(self, config: dict | None, arrays: list) -> Weights:
        """Weights of another process, as `get_weights` would have returned them.

        Args:
            config: that of the network that they belong to; None for the model as it is.
            arrays: the weights.
        """
        weights = Weights(arrays)
        weights.owner, weights.generation = self, self.generation
        if config is None:
            self._wanted.add(self.generation)
        else:
            weights.generation = min(self.configs, default=0) - 1  # of a time before these
            self.configs[weights.generation] = config
        return weights

    @contextlib.contextmanager
    def shrinking(self) -> Iterator[Changes]:
        """Context in which the model shrinks, and logs it in what this yields."""
        former = Former(self.generation, Changes())
        config = None
        if self.generation in self._wanted and has_graph(self.model):
            config = graph_config(self.model)
        try:
            yield former.changes
        except BaseException:
            former.changes.undo()
            raise
        if config is not None:
            self.configs[self.generation] = config
        former.changes.forget_values()
        self._former.append(former)
        if not self._wanted:
            self._former.clear()  # nobody can ask for what was before
        self.generation += 1

    def _get_weights(self) -> Weights:
        self._wanted.add(self.generation)
        weights = Weights(type(self.model).get_weights(self.model))
        weights.generation = self.generation
        weights.owner = self
        return weights

    def _set_weights(self, weights: Any) -> None:
        is_former = getattr(weights, "owner", None) is self
        is_former = is_former and weights.generation != self.generation
        if is_former:
            self._bring_back(weights.generation)
        type(self.model).set_weights(self.model, weights)
        if is_former and self.on_return is not None:
            self.on_return()

    def _bring_back(self, generation: int) -> None:
        model = self.model
        if generation in {former.generation for former in self._former}:
            with scope_of(model):
                while self._former and self._former[-1].generation >= generation:
                    self._former.pop().changes.undo()
        else:  # of another process
            former = by_place(model)
            with scope_of(model):
                adopt(model, graph_from_config(model, self.configs[generation]))
                _renew_optimizer(model, former)
        for holder in holders_of(model):
            refresh_functions(holder)
            if getattr(holder, "optimizer", None) is not None and holder.optimizer.built:
                learn_keys(holder.optimizer)
        self.generation = generation


def _renew_optimizer(model: keras.Model, former: dict[str, keras.Variable]) -> None:
    """The slots of the small network are no use to the large one: they start anew."""
    if not model.compiled or model.optimizer is None:
        return
    iterations = int(steps_counter_of(model.optimizer))
    now = by_place(model)
    pairs = [(before, now[place]) for place, before in former.items() if place in now]
    renew(model.optimizer, model.trainable_variables, pairs)
    steps_counter_of(model.optimizer).assign(iterations)
