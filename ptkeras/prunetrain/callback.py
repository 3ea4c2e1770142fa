"""PruneTrain as a Keras callback."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import keras
import numpy as np

from ptkeras.multi_worker.agreement import from_chief, strategy_of
from ptkeras.multi_worker.replicas import average_statistics
from ptkeras.prunetrain.budget import BudgetSparsifier
from ptkeras.prunetrain.examples import counter_of
from ptkeras.prunetrain.group_lasso import LassoSparsifier
from ptkeras.prunetrain.loop import LoopPruning
from ptkeras.prunetrain.outlook import no_fresh_network, too_far
from ptkeras.prunetrain.payback import StepClock, seconds_saved
from ptkeras.prunetrain.steps import steps_of
from ptkeras.surgery.functions import refresh_functions
from ptkeras.utils import models
from ptkeras.utils.trainers import check_model, check_part, optimizers_of

_STATE = ("training_flops", "reconfigurations", "_epoch_examples")
_PAPERS_INTERVAL = 10
_TARGET = 0.5


class PruneTrain(LoopPruning, keras.callbacks.Callback):
    """Prunes a network while it trains from scratch (PruneTrain, Lym et al., SC'19).

    Channels are driven to zero from the first epochs on and removed, with their weights, batch-norm
    statistics and optimizer slots; `fit` goes on with the smaller network, and the object that the
    caller holds is the pruned model. There are two ways to get there.

    **A budget** needs no setting but the share of the cost that is to be left:

    ```python
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "sparse_categorical_crossentropy")
    model.fit(x, y, epochs=60, callbacks=[ptkeras.PruneTrain(target=0.5)])  # half of the FLOPs
    ```

    After a twentieth of the epochs the channels are chosen that `ptkeras.prune` would take. Their
    groups shrink evenly, to exactly zero before the end of a stage; then they are removed, and the
    outputs stay the same to rounding. A stage leaves 0.6 of the cost at least, so a small target
    takes several, each with channels chosen anew. After 0.3 of the epochs the network has its last
    size, and the rest of the training recovers. The group of a channel is its γ and β in every
    batch normalization on it, tied over shortcuts, if nothing reads the channel before one: a batch
    normalization undoes whatever the scale of a kernel is. Elsewhere it is all that the channel
    has. After each step of the optimizer, with r steps left, the group v of a chosen channel is
    moved by the proximal step v ← v·max(0, 1 − t/‖v‖), t = ‖v‖/r.

    **The paper's group lasso** acts on every input and output channel from the first step, and
    takes a lasso penalty ratio and a threshold:

    ```python
    model.fit(x, y, epochs=60, callbacks=[ptkeras.PruneTrain(ratio=0.2, interval=10)])
    ```

    Its strength λ is set once, after the first batch (under `steps_per_execution`, the first
    execution), from the lasso penalty ratio: λ·GL / (CE + λ·GL) = ratio (equation 3), where CE is
    the loss of the initial network on that batch, without the regularization of its weights, and GL
    the group lasso of the initial network with strength 1. Every `interval` epochs, a channel is
    removed when every group of it, in all kernels that make or read it, is under the threshold
    (channel union). Channels of kernels that do not train are kept.

    The gradient of the lasso is added where a Keras optimizer applies the gradients of the loss,
    and groups shrink there too. So both act in every `train_step`, whether or not it adds
    `self.losses` to its loss.

    The logs of each epoch get `lasso` (λ·GL), `channels` (those that may still be removed),
    `params`, `inference_flops` (of one forward pass of one example) and `training_flops` (of the
    whole training so far): put it first in the list of callbacks, so that the others see them. They
    are those of the network that the epoch trained; what its end removed shows in the next.

    A training may be in pieces, several calls of `fit` with the same callback. The paper's interval
    counts over all of them: a call that is shorter is such a piece, and the last epoch of a longer
    one ends with a reconfiguration. A budget has to know the number of epochs, as `epochs`. A `fit`
    that an exception ends leaves the optimizer as it trains; `ptkeras.lasso.detach(model)` takes
    off what was put on it.

    `EarlyStopping(restore_best_weights=True)` may bring back a network from before the target was
    met; give it `start_from_epoch`, a third of the epochs.

    To go on with a training of which only the model is left, give the λ that it had as `strength`,
    and set `callback.training_flops` to what it has spent.

    To prune a part of the model in `fit`, such as the generator of a GAN or the student of a
    distiller, name it: the logs are those of the part.

    ```python
    distiller.fit(x, y, epochs=60, callbacks=[ptkeras.PruneTrain(model=distiller.student)])
    gan.fit(x, epochs=60, callbacks=[ptkeras.PruneTrain(model=gan.generator, monitor="g_loss")])
    ```

    A training loop of one's own calls three methods: `bind` before the first step, `penalty` in the
    loss, and `end_epoch`; after each step of an optimizer that is not Keras's also `after_step`.
    For a budget the penalty is 0, and `PruneTrain(target=0.5, epochs=60)` says how long the loop
    is.

    With TensorFlow:

    ```python
    pruning = ptkeras.PruneTrain(ratio=0.2, interval=10)
    pruning.bind(model, optimizer, loss=loss_fn(y[:64], model(x[:64])))

    def make_step():
        @tf.function
        def step(x, y):
            with tf.GradientTape() as tape:
                loss = loss_fn(y, model(x, training=True)) + pruning.penalty()
            variables = model.trainable_variables
            optimizer.apply(tape.gradient(loss, variables), variables)
        return step

    step = make_step()
    for epoch in range(60):
        for batch in dataset:
            step(*batch)
        if pruning.end_epoch(examples=len(x), last=epoch == 59):
            step = make_step()  # the network is smaller
    ```

    With JAX, where a step is a function of the state:

    ```python
    def loss_of(trainable, non_trainable, x, y):
        outputs, non_trainable = model.stateless_call(trainable, non_trainable, x, training=True)
        return loss_fn(y, outputs) + pruning.penalty(trainable), non_trainable

    def make_step():
        @jax.jit
        def step(state, x, y):
            trainable, non_trainable, slots = state
            slopes, non_trainable = jax.grad(loss_of, has_aux=True)(trainable, non_trainable, x, y)
            trainable, slots = optimizer.stateless_apply(slots, slopes, trainable)
            return trainable, non_trainable, slots
        return step

    optimizer.build(model.trainable_variables)
    pruning.bind(model, optimizer, loss=loss_fn(y[:64], model(x[:64])))
    step = make_step()
    for epoch in range(60):
        held = model.trainable_variables, model.non_trainable_variables, optimizer.variables
        state = [[v.value for v in variables] for variables in held]
        for batch in dataset:
            state = step(state, *batch)
        for variables, values in zip(held, state):
            for variable, value in zip(variables, values):
                variable.assign(value)
        if pruning.end_epoch(examples=len(x), last=epoch == 59):
            step = make_step()
    ```

    With PyTorch:

    ```python
    pruning.bind(model, loss=loss_fn(model(x[:64]), y[:64]))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for epoch in range(60):
        for x_batch, y_batch in dataset:
            optimizer.zero_grad()
            (loss_fn(model(x_batch), y_batch) + pruning.penalty()).backward()
            optimizer.step()
            pruning.after_step()
        if pruning.end_epoch(examples=len(x), last=epoch == 59):
            optimizer = torch.optim.SGD(model.parameters(), 0.1)
    ```

    Args:
        ratio: the lasso penalty ratio of the paper, over 0 and under 1. It uses 0.2 to 0.3. Any
            argument of the paper's way, up to `remove_dead_branches`, chooses that way, as do
            `strength` and `monitor`; without one, and without a target, the target is 0.5.
        interval: the reconfiguration interval, in epochs; with a target, the length of a stage.
            `"auto"`, in `fit` alone, looks after a stage, or a twentieth of the epochs. Channels
            at zero are removed if the remaining steps save more time than it takes to make the
            smaller network's step. Otherwise they stay at zero, and go with later ones or at the
            end. So the clock decides when, and the last digits of a run depend on it. Left out, 10,
            and with a target what suits the epochs.
        threshold: the sparsity threshold that a group has to be under, over 0; 1e-4 if left out.
        measure: how large a group is: `"max"`, its largest absolute weight, as the authors have
            it, or `"mean"` of its absolute weights.
        channel_gating: whether layers at a shortcut keep only the channels that they use
            themselves, by selection before and after them, rather than all that the shortcut has
            (section 4.2).
        remove_dead_branches: whether a residual branch that has lost all channels of some layer
            is removed. What its last batch norm makes of nothing is kept, as a constant.
        min_channels: the least number of channels a layer keeps.
        channel_multiple: what the number of a layer's channels stays a multiple of; `"auto"` for
            what `ptkeras.latency.preferred_multiple` finds on this machine, or the half, a quarter
            and so on of that if a target is out of reach with it.
        batch_size: dynamic mini-batch adjustment (section 4.3): a variable that the input pipeline
            reads at the start of each epoch (anything with `assign` that `int` reads). As the
            memory of a step shrinks, the batch grows to fill the memory of the first step, and the
            learning rate with it. A `LearningRateScheduler` that returns an absolute rate should
            multiply it by `callback.batch_scale`. None leaves the batch alone.
        verbose: 0 for silence, 1 for a line for each reconfiguration.
        model: the model to prune, a part of the one in `fit`; None for that one as a whole.
        monitor: the name that the loss CE has in the logs, "loss" if left out.
        input_shape: shape of one example, without the batch axis, for a model that leaves sizes of
            its inputs open: its FLOPs depend on them. None for those of the first batch, which come
            too late for a target.
        target: the share of the cost that is left in the end, over 0 and under 1.
        of: what `target` is a share of: `"flops"` of one forward pass, `"params"` or `"channels"`.
        leave_alone: names or paths of layers that lose no channel, see `ptkeras.prune`.
        overrides: for a layer's name or path the share of its channels that goes, likewise.
        epochs: the number of epochs of the whole training; None for those of `fit`.
        strength: λ of the paper's group lasso, 0 or more; None sets it from the ratio.

    Attributes:
        strength: λ, or None before it is set and for a target. Setting it before `fit` keeps it.
        reconfigurations: one dict for each reconfiguration: `epoch` (counted from 1), `channels`,
            `params` and `inference_flops` as pairs (before, after), `seconds`, and `layers`, which
            has for the name of each layer that makes channels their number before and after. See
            `ptkeras.prunetrain.Reconfiguration`.
        batch_scale: the batch size over the first one.

    Raises:
        ValueError: If an argument is out of its range; in `fit`, if the model has nothing that
            could be pruned, the first loss is missing or not finite, no Keras optimizer trains the
            model, or workers that train together differ.
    """

    def __init__(
        self,
        ratio: float | None = None,
        interval: int | Literal["auto"] | None = None,
        threshold: float | None = None,
        measure: Literal["max", "mean"] | None = None,
        channel_gating: bool | None = None,
        remove_dead_branches: bool | None = None,
        min_channels: int = 1,
        channel_multiple: int | Literal["auto"] = 1,
        batch_size: Any = None,
        verbose: int = 1,
        model: keras.Model | None = None,
        monitor: str | None = None,
        input_shape: Any = None,
        *,
        target: float | None = None,
        of: str | None = None,
        leave_alone: Iterable[str] | None = None,
        overrides: Mapping[str, float] | None = None,
        epochs: int | None = None,
        strength: float | None = None,
    ) -> None:
        papers = _given(
            ratio=ratio,
            threshold=threshold,
            measure=measure,
            channel_gating=channel_gating,
            remove_dead_branches=remove_dead_branches,
            strength=strength,
            monitor=monitor,
        )
        budgets = _given(
            target=target, of=of, leave_alone=leave_alone, overrides=overrides, epochs=epochs
        )
        _check_one_way(papers, budgets)
        self.monitor = papers.pop("monitor", "loss")
        shared: dict[str, Any] = {
            "min_channels": min_channels,
            "channel_multiple": channel_multiple,
        }
        sparsifier: LassoSparsifier | BudgetSparsifier
        # An interval without a target is the paper's: so it was before there were targets.
        if papers or monitor is not None or (interval is not None and not budgets):
            shared["interval"] = _PAPERS_INTERVAL if interval is None else interval
            sparsifier = LassoSparsifier(**shared, **papers)
        else:
            shared |= {"interval": interval, "input_shape": input_shape}
            sparsifier = BudgetSparsifier(**{"target": _TARGET} | shared | budgets)
        super().__init__(sparsifier, batch_size, verbose)
        for name, value in sparsifier.arguments.items():
            setattr(self, name, value)
        self._input_shape = input_shape
        self._part = check_model(self, model)
        self._counter: Any = None
        self._examples_before = 0  # of the epoch at hand, in another process
        self._examples_at_start = 0
        self._is_first_epoch = self._is_checked = False
        self._has_looked = False
        self._steps_before = 0
        self._clocks = {"train": StepClock(), "test": StepClock()}

    def get_settings(self) -> dict[str, Any]:
        """Returns what has to be the same when a training is taken up again."""
        return self._sparsifier.arguments | {"adjusts_batch_size": self._adjustment is not None}

    def get_state(self) -> dict[str, Any]:
        """Returns what has to survive when a training is stopped and taken up again."""
        state = {name: getattr(self, name) for name in _STATE}
        state |= {"epochs": self._epochs.get_state(), "examples": self._examples()}
        state["sparsifier"] = self._sparsifier.get_state()
        if self._adjustment is not None:
            state["batch"] = [self._adjustment.size, self._adjustment.memory]
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes back what `get_state` returned.

        Args:
            state: from a callback with the same arguments, maybe of another process.
        """
        for name in _STATE:
            setattr(self, name, state[name])
        # A checkpoint from before there were targets has the state of the lasso in that of the
        # callback.
        former = {"strength": state.get("strength"), "is_measured": state.get("_is_measured")}
        self._sparsifier.set_state(state.get("sparsifier", former))
        self._epochs.set_state(state["epochs"])
        self._examples_before = state["examples"]
        self._examples_at_start = 0 if self._counter is None else self._counter.total
        if self._adjustment is not None:
            size, self._adjustment.memory = state["batch"]
            self._adjustment.variable.assign(size)

    # The hooks of Keras, in the order in which fit calls them.

    def set_model(self, model: keras.Model) -> None:
        """Takes the model in `fit`, which has to be one of Keras 3."""
        models.check_model(model)
        super().set_model(model)

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Puts the lasso on the model."""
        pruned = self.model if self._part is None else self._part
        self._forget_other_model(pruned)
        check_part(self, pruned, self.model)
        self._is_in_fit = True
        self._take(pruned, self.model, getattr(self.model, "optimizer", None))
        self._counter = counter_of(self.model, self)
        self._examples_at_start = self._counter.total
        # An earlier fit may have compiled a step that knows nothing of this one.
        refresh_functions(self.model)
        self._clocks = {"train": StepClock(), "test": StepClock()}
        self._is_first_epoch, self._is_checked = True, False
        self._has_looked = self._epochs.trained > 0
        self._steps_before = self._steps()

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Starts counting the examples of the epoch, and its time."""
        self._clocks["train"].begin_epoch()
        if not self._is_first_epoch:
            return
        self._is_first_epoch = False
        is_new = self._epochs.trained == 0
        self._epochs.begin(epoch, self.params["epochs"])
        self._plan()
        if is_new and self._epochs.is_piece:
            warnings.warn(
                f"The interval of PruneTrain, {self.interval} epochs, is longer than this fit of "
                f"{self._epochs.length}, which ends before anything is removed: call fit again "
                "with the same callback, or choose an interval of "
                f"{self._epochs.length} at most.",
                stacklevel=2,
            )

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Sets λ after the first batch, whose loss is that of the initial network."""
        self._clocks["train"].end_step()
        is_set = self._lasso is None or self.strength is not None
        if self._is_checked and is_set:
            return
        self._learn_sizes()
        try:
            self._check_acts(is_over=False)
            if self._lasso is not None and not is_set:
                loss = self._lasso.set_strength_from_logs(self._map, logs or {}, self.monitor)
                _warn(no_fresh_network(self.model, loss))
                if keras.config.backend() == "jax":
                    # A compiled JAX step holds the value of a variable that is not the model's.
                    self.model.make_train_function(force=True)
        except ValueError:
            self._leave()
            raise

    def on_test_begin(self, logs: dict | None = None) -> None:
        """Has all replicas test the same network."""
        average_statistics(self.model)
        self._clocks["test"].begin_epoch()

    def on_test_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Notes how long it takes."""
        self._clocks["test"].end_step()

    def on_test_end(self, logs: dict | None = None) -> None:
        """Notes how long it took."""
        self._clocks["test"].end_epoch(self._training_flops, 1)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Reconfigures if the interval says so, and adds to the logs."""
        self._clocks["train"].end_epoch(self._training_flops, self._examples())
        average_statistics(self.model)
        if not self._is_checked:
            self._check_acts(is_over=True)
        self._count(self._examples())
        self._examples_before, self._examples_at_start = 0, self._counter.total
        if logs is not None:
            logs.update(self._figures())
        self._epochs.end_epoch(epoch)
        if not self._has_looked:
            self._look_ahead()
        try:
            is_steady = self._lasso is None and not self._sparsifier.is_auto
            self._end_epoch(always=self._epochs.is_last or is_steady)
        except ValueError:
            self._leave()
            raise

    def on_train_end(self, logs: dict | None = None) -> None:
        """Takes the lasso off the finished model.

        If another callback has ended the training, what has gone to zero since the last interval is
        removed first.
        """
        epochs = self._epochs
        if self._is_first_epoch:  # no epoch was left
            epochs.begin(epochs.trained, self.params["epochs"])
        if self._lasso is not None and epochs.trained > epochs.reconfigured and not epochs.is_piece:
            self._refresh()  # a callback before this one may have brought an earlier network back
            self.reconfigure(epochs.trained)
        if isinstance(self._sparsifier, BudgetSparsifier) and self._sparsifier.held:
            self._refresh()
            if any(getattr(one, "use_ema", False) for one in optimizers_of(self.model)):
                self._sparsifier.zero_held()  # Keras has put the averages in place by now
            self.reconfigure(epochs.trained)
        if self._lasso is None:  # what was asked for did not come
            _warn(self._outcome())
        else:
            self._say(self._outcome())
        self._leave()

    # What they are made of.

    def reconfigure(self, epoch: int, always: bool = True) -> bool:
        """Removes the channels that have reached zero, see `ChannelPruning.reconfigure`."""
        held = dict(getattr(self._sparsifier, "held", {}))
        has_changed = super().reconfigure(epoch, always)
        if has_changed:
            for clock in self._clocks.values():
                clock.renew()
        if has_changed and held:
            # The best weights of EarlyStopping may be of the network that still had them.
            self._generations.on_return = functools.partial(self._remove_again, held)
        return has_changed

    def _remove_again(self, held: dict[str, list[int]]) -> None:
        """Removes channels at zero from an earlier network that has been brought back."""
        self._generations.on_return = None
        self._refresh()
        assert isinstance(self._sparsifier, BudgetSparsifier)
        self._sparsifier.held, is_in_fit = held, self._is_in_fit
        self._is_in_fit = True
        super().reconfigure(self._epochs.trained)
        self._is_in_fit = is_in_fit
        if not is_in_fit:
            self._sparsifier.detach(self._pruned, self.model)

    def _put_off(self, keep: np.ndarray, gates: dict) -> str | None:
        if not self._is_in_fit or not self._sparsifier.is_auto:
            return super()._put_off(keep, gates)
        brings = from_chief(strategy_of(self._trainer), lambda: self._payback(keep, gates))
        if brings is None:
            return super()._put_off(keep, gates)
        if brings[0] > brings[1]:
            return None
        saves, costs = brings
        return (
            f"{int((~keep).sum())} channels are at zero and stay there for now, since the smaller "
            f"network would save {saves:.1f} s in the steps that remain, and making its step "
            f"takes {costs:.1f} s."
        )

    def _payback(self, keep: np.ndarray, gates: dict) -> list[float] | None:
        """Returns the seconds that a removal would save and cost, None where nobody knows."""
        train, test = self._clocks["train"], self._clocks["test"]
        epochs = self._epochs.planned - self._epochs.trained
        saves = seconds_saved(self._map, keep, gates, train, self._training_flops, epochs)
        return None if saves is None else [saves, train.cost + test.cost]

    def _plan(self) -> None:
        try:
            self._sparsifier.plan(self._epochs)
        except ValueError:
            self._leave()
            raise

    def _look_ahead(self) -> None:
        """Warns if the lasso will remove nothing, as soon as the number of steps is known."""
        self._has_looked = True
        optimizer = getattr(self.model, "optimizer", None)
        if self._lasso is None or not self.strength or optimizer is None or self._epochs.is_piece:
            return  # nobody knows how long a training in pieces is
        ahead = (self._steps() - self._steps_before) * max(
            self._epochs.planned, self._epochs.interval
        )
        _warn(too_far(self._map, self._free, self.strength, optimizer, ahead))

    def _steps(self) -> int:
        """Returns the number of steps that the optimizer of the model in `fit` has made."""
        optimizer = getattr(self.model, "optimizer", None)
        return 0 if optimizer is None else int(keras.ops.convert_to_numpy(optimizer.iterations))

    def _outcome(self) -> str | None:
        """Returns a sentence about the end of the training, if it did not do what was wanted."""
        if self._lasso is None:
            self._refresh()  # a callback before this one may have brought an earlier network back
        return self._sparsifier.outcome(self._map, self._epochs, bool(self.reconfigurations))

    def _learn_sizes(self) -> None:
        """Counts FLOPs at the sizes of the first batch, if the model leaves its own open."""
        if self._inference_flops is None and self._part is None:
            self._input_shape = self._counter.input_shape
        if self._inference_flops is None:
            self._count_flops()

    def _act(self) -> None:
        if self._is_in_fit:
            self._sparsifier.attach(self._map, self.model)
        else:
            super()._act()

    def _leave(self) -> None:
        """Makes the model a plain one again."""
        self._is_in_fit = False
        self._sparsifier.detach(self._pruned, self.model)
        self._counter.release(self)
        refresh_functions(self.model)

    def _examples(self) -> int:
        """Number of examples in the epoch so far."""
        counted = 0 if self._counter is None else self._counter.total - self._examples_at_start
        return self._examples_before + counted

    def _check_acts(self, is_over: bool) -> None:
        """Checks that an optimizer adds the lasso.

        Args:
            is_over: whether the first epoch is over. Until then an optimizer of other weights may
                be the only one that was used.
        """
        kind = self._sparsifier.step_type
        steps = [step for step in steps_of(self.model) if isinstance(step, kind)]
        watched = {id(variable) for variable in self._sparsifier.watched(self._pruned)}
        self._is_checked = any(watched & step.reached for step in steps)
        if self._is_checked or (not is_over and any(step.was_called for step in steps)):
            return
        met = not steps and self._lasso is None
        if met or not watched:  # the target is met, or nothing is left that may go
            self._is_checked = True
            return
        what, remedy = "shrinking of PruneTrain", "PruneTrain.bind"
        if self._lasso is not None:
            what, remedy = "group lasso of PruneTrain", "PruneTrain.penalty() in the loss"
        raise ValueError(
            f"The {what} does not act on '{self._pruned.name}': no Keras optimizer that "
            f"'{self.model.name}' holds has updated its weights. Train them by the apply method of "
            f"one, or in a loop of your own with {remedy}."
        )


def _warn(sentence: str | None) -> None:
    if sentence is not None:
        warnings.warn(sentence, stacklevel=3)


def _given(**arguments: Any) -> dict[str, Any]:
    """Returns the arguments that are not None."""
    return {name: value for name, value in arguments.items() if value is not None}


def _check_one_way(papers: dict[str, Any], budgets: dict[str, Any]) -> None:
    """Raises a ValueError if arguments of both ways to prune are given."""
    if papers and budgets:
        one, other = next(iter(papers)), next(iter(budgets))
        raise ValueError(
            f"PruneTrain takes {other}={budgets[other]!r}, for a budget, or "
            f"{one}={papers[one]!r}, for the paper's group lasso, not both: leave one out."
        )
