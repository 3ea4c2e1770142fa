"""Gradual magnitude pruning as a Keras callback."""

from __future__ import annotations

import base64
import warnings
import zlib
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np

from ptkeras.magnitude import thresholds
from ptkeras.magnitude.held_mask import mask_of
from ptkeras.magnitude.kernels import Kernel, kernels, names_of
from ptkeras.magnitude.masks import Masks, averages_of, board, leave
from ptkeras.magnitude.pruning import Scope, check_scope, groups, m_by_n_kernels
from ptkeras.prunetrain import lasso
from ptkeras.utils import models
from ptkeras.utils.trainers import check_model, check_part

Schedule = Callable[[int], Any]

# A share of zeros that no initialiser and no training leaves by chance.
MANY = 0.1


class MagnitudePruning(keras.callbacks.Callback):
    """Sets the smallest weights to zero while a model trains, and holds them there.

    ```python
    schedule = tfmot.sparsity.keras.PolynomialDecay(0.0, 0.8, begin_step=0, end_step=1000)
    model.fit(x, y, callbacks=[ptkeras.MagnitudePruning(schedule)])
    ptkeras.magnitude.strip(model)
    ```

    After Han et al., NIPS 2015 (arXiv 1506.02626), made gradual by Zhu & Gupta, 2017
    (arXiv 1710.01878). What it does in each step is what TF-MOT's `prune_low_magnitude` does, which
    has no Keras 3: the masks are the same ones, step by step, on every backend. As there, a weight
    that was dropped takes part in the next choice with what the last update made of it, and so may
    come back; and where a kernel has more zeros than the schedule asks for, the threshold is zero,
    and all of them are let go. (TF-MOT leaves the kernels of depthwise convolutions whole, and
    prunes embeddings.)

    Masks hold until `ptkeras.magnitude.strip(model)`, in later calls of `fit` too. They are in no
    file: what is saved is a plain model. The logs of each epoch get `sparsity`, the share of zeros
    in the kernels that have masks.

    Put it first among the callbacks, and let `EarlyStopping(restore_best_weights=True)` start when
    the schedule has ended (`start_from_epoch`): what it brings back has the zeros of its epoch.
    A run that is to go on after a kill needs `ptkeras.Survival(path, [pruning])`, which saves masks
    and step beside the model; Keras's `BackupAndRestore` saves weights alone.

    Args:
        schedule: when to prune, and how much: a `tfmot.sparsity.keras.PruningSchedule` as it is, or
            any function of the step, counted from 1 over all calls of `fit`, that returns
            `(should_prune, sparsity)`; or the sparsity, which prunes whenever it changes; or None
            to leave the masks alone. A sparsity is a share of weights, from 0 and under 1. Each
            step is asked for once, in order; with `steps_per_execution`, those of one execution
            together.
        scope: what has one threshold: `"layer"`, each kernel by itself, as TF-MOT has it; `"kind"`,
            all convolutions and all dense layers; `"global"`, all kernels.
        sparsity_m_by_n: in place of a schedule, `(m, n)`: of every n consecutive weights along the
            input channels the m smallest go, in the first step; `(2, 4)` is what sparse tensor
            cores take. Kernels of depthwise convolutions stay whole. (TF-MOT goes along the output
            channels of transposed convolutions.)
        leave_alone: names or paths of layers whose kernels stay whole, or `"conv"` or `"dense"`.
        model: the model to prune, a part of the one in `fit`, such as the generator of a GAN; None
            for that one as a whole.

    Attributes:
        step: the number of steps done.
        thresholds: for the path of each kernel the magnitude under which its weights went last.

    Raises:
        ValueError: an argument is out of its range; in `fit`, the model has no kernels, the
            schedule returns no sparsity, or `PruneTrain` is in the same `fit`.
    """

    def __init__(
        self,
        schedule: Schedule | None = None,
        *,
        scope: Scope = "layer",
        sparsity_m_by_n: tuple[int, int] | None = None,
        leave_alone: Iterable[str] = (),
        model: keras.Model | None = None,
    ) -> None:
        super().__init__()
        if (schedule is None) == (sparsity_m_by_n is None):
            raise ValueError(
                "MagnitudePruning takes a schedule or sparsity_m_by_n, and one of them; received "
                f"schedule={schedule!r} and sparsity_m_by_n={sparsity_m_by_n!r}."
            )
        if schedule is not None and (isinstance(schedule, type) or not callable(schedule)):
            raise ValueError(
                "The schedule of MagnitudePruning must be a PruningSchedule, made from its class, "
                f"or a function of the step; received {schedule!r}. For one sparsity throughout: "
                "lambda step: 0.5."
            )
        check_scope(scope)
        self.schedule = schedule
        self.scope = scope
        self.sparsity_m_by_n = None if sparsity_m_by_n is None else _pair(sparsity_m_by_n)
        self.leave_alone = names_of(leave_alone)
        self._part = check_model(self, model)
        self.step = 0
        self.thresholds: dict[str, float] = {}
        self._sparsity: float | None = None
        self._looked_at = 0
        self._coming: tuple[int, float | None] | None = None
        self._saved: tuple[list[np.ndarray], bool] | None = None
        self._steps: int | None = None  # of what this fit does of the epoch at hand
        self._done = 0
        self._left: int | None = None  # of an epoch that another fit has begun
        self._is_rest = False
        self._served: int | None = None
        self._masks: Masks | None = None
        self._lifted = False

    # The hooks of Keras, in the order in which fit calls them.

    def set_model(self, model: keras.Model) -> None:
        """Takes the model in `fit`, which has to be one of Keras 3."""
        models.check_model(model)
        super().set_model(model)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Puts masks on the kernels."""
        if lasso.is_attached(self.model):
            raise ValueError(
                f"PruneTrain has its lasso on '{self.model.name}', and rebuilds the kernels that "
                "masks are for: train with PruneTrain or MagnitudePruning, one after the other. "
                "What a fit that broke off has left, ptkeras.lasso.detach(model) takes off."
            )
        pruned = self._pruned
        check_part(self, pruned, self.model)
        if self._served not in (None, id(pruned)):
            self.step, self._looked_at, self._sparsity, self._coming = 0, 0, None, None
        self._served = id(pruned)
        self._kernels = kernels(pruned, self.leave_alone)
        if self.sparsity_m_by_n is not None:
            self._kernels = m_by_n_kernels(pruned, self._kernels)
        masks = self._masks = Masks(self.model, self._kernels)
        self._lifted = False
        if self._saved is None:
            masks.take_hold()
        else:  # those that a fit which broke off has left are not for the weights of the file
            self._put_on(*self._saved)
        if keras.config.backend() == "jax":
            board(self.model, masks.variables)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Puts on the masks of a run that goes on, maybe in the middle of an epoch."""
        self._epoch = epoch
        self._is_rest = self._left is not None
        self._steps = self._left if self._is_rest else self.params["steps"]
        self._done, self._left = 0, None
        if self._saved is not None:  # set behind on_train_begin
            self._put_on(*self._saved)
        elif epoch > 0 and self.step == 0:
            self._tell_of_lost_masks(epoch)

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Prunes where the schedule says so."""
        self._first = batch
        if self._is_rest and self._steps is not None and batch >= self._steps:
            return  # Keras, which knows of whole epochs alone, asks for data that is not there
        due = self._dues(self.step + 1)
        if due is not None:
            self._prune(due)
        # A weight that was dropped is to have the last update in it when the masks are made anew.
        several = self.model.steps_per_execution > 1
        last = self._ends_epoch(batch) and self._epoch + 1 >= self.params["epochs"]
        lifted = not several and not last and self._due(self.step + 2) is not None
        if lifted != self._lifted:
            self._lift(lifted)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Counts the steps; behind the last of an epoch, leaves zeros for callbacks before it."""
        ends = self._ends_epoch(batch)
        # Keras counts a cut execution as whole.
        self._done = self._steps if ends and self._steps is not None else batch + 1
        self.step += self._done - self._first
        if ends:
            self._settle()

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Validates with the masks on."""
        self._settle()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Leaves zeros for whoever saves the model, and adds to the logs."""
        self._settle()
        self._done = 0
        if logs is not None:
            held = [k for k in kernels(self._pruned) if mask_of(k.variable) is not None]
            zeros = sum(np.count_nonzero(kernel.values == 0) for kernel in held)
            logs["sparsity"] = zeros / sum(kernel.size for kernel in held)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Takes the masks out of the optimiser, and tells of weights that came back."""
        self._sync()
        self._held.take_hold()
        self._saved = self._left = None  # where no epoch was left
        leave(self.model)

    # What survives beside the model.

    def get_state(self) -> dict[str, Any]:
        """What a run that goes on in another process needs: the step and the masks, for JSON."""
        self._sync()
        steps = self._steps or 0
        return {
            "step": self.step,
            "looked_at": self._looked_at,
            "sparsity": self._sparsity,
            "thresholds": self.thresholds,
            "masks": [_packed(mask) for mask in self._held.read()],
            "lifted": self._lifted,
            "left": steps - self._done if 0 < self._done < steps else None,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes back what `get_state` returned; the masks are put on when the training begins."""
        self.step, self._looked_at = state["step"], state["looked_at"]
        self._sparsity, self.thresholds = state["sparsity"], dict(state["thresholds"])
        self._coming = None
        self._saved = [_unpacked(text) for text in state["masks"]], state["lifted"]
        self._left = state.get("left")

    # What they are made of.

    @property
    def _pruned(self) -> keras.Model:
        return self.model if self._part is None else self._part

    @property
    def _held(self) -> Masks:
        """The masks, once a training has begun."""
        if self._masks is None:
            raise ValueError("MagnitudePruning has no masks yet: fit makes them when it begins.")
        return self._masks

    def _put_on(self, masks: list[np.ndarray], lifted: bool) -> None:
        self._saved = None
        self._lift(lifted)
        self._held.write(masks, apply=not lifted)

    def _tell_of_lost_masks(self, epoch: int) -> None:
        """Warns of a run that goes on without its masks, as far as that can be seen."""
        zeros = sum(np.count_nonzero(kernel.values == 0) for kernel in self._kernels)
        share = zeros / sum(kernel.size for kernel in self._kernels)
        if share > MANY and all(mask.all() for mask in self._held.read()):
            warnings.warn(
                f"The training goes on with epoch {epoch + 1}, and {share:.1%} of the weights are "
                "zeros that no mask holds, while MagnitudePruning counts its steps from 1: Keras's "
                "BackupAndRestore does not save masks; ptkeras.Survival(path, [pruning]) does.",
                stacklevel=2,
            )

    def _ends_epoch(self, batch: int) -> bool:
        """Whether a step is the last of its epoch, as far as their number is known."""
        return self._steps is not None and self._first < self._steps <= batch + 1

    def _dues(self, step: int) -> float | None:
        """The sparsity that the steps up to this one, not looked at yet, ask for last."""
        due = None
        for at in range(self._looked_at + 1, step + 1):  # several, if an execution has several
            sparsity = self._due(at)
            due = due if sparsity is None else sparsity
        self._looked_at = max(self._looked_at, step)
        return due

    def _due(self, step: int) -> float | None:
        """The sparsity to prune to in a step, None where the masks stay as they are."""
        if self.sparsity_m_by_n is not None:
            return 0.0 if step == 1 else None
        if self._coming is None or self._coming[0] != step:
            self._coming = (step, self._asked(step))
        return self._coming[1]

    def _asked(self, step: int) -> float | None:
        answer = None if self.schedule is None else self.schedule(step)
        if answer is None:
            return None
        try:
            due, sparsity = _read(answer)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"The schedule of MagnitudePruning returns {answer!r} for step {step}: it must be "
                "(should_prune, sparsity), the sparsity, or None."
            ) from error
        if sparsity is not None and not 0 <= sparsity < 1:
            raise ValueError(
                f"The schedule of MagnitudePruning asks for a sparsity of {sparsity} in step "
                f"{step}: it must be a share of weights, from 0 and under 1."
            )
        return sparsity if (sparsity != self._sparsity if due is None else due) else None

    def _prune(self, sparsity: float) -> None:
        self._sync()
        self._sparsity = sparsity
        if self.sparsity_m_by_n is not None:
            self._held.write([_m_by_n(kernel, *self.sparsity_m_by_n) for kernel in self._kernels])
            return
        values = [kernel.values for kernel in self._kernels]
        masks: list[Any] = [None] * len(values)
        for members in groups(self._kernels, self.scope):
            threshold = thresholds.threshold([values[i] for i in members], sparsity)
            for i in members:
                masks[i] = thresholds.mask(values[i], threshold)
                self.thresholds[self._kernels[i].path] = threshold
        self._held.write(masks)

    def _settle(self) -> None:
        """Brings the masks to where the steps done have them, and the weights to the masks."""
        if self._masks is None:
            return
        due = self._dues(self.step)
        if due is not None:
            self._prune(due)
        if self._lifted or averages_of(self.model):
            self._lift(False)
            self._masks.apply()

    def _lift(self, lifted: bool) -> None:
        self._sync()
        self._held.lift(lifted)
        self._lifted = lifted

    def _sync(self) -> None:
        """On JAX the steps leave the variables in a state apart until it is asked for."""
        if hasattr(self.model, "jax_state_sync"):
            self.model.jax_state_sync()


def _m_by_n(kernel: Kernel, m: int, n: int) -> np.ndarray:
    """The weights of a kernel that stay, along its input channels."""
    values = np.swapaxes(kernel.values, -1, -2) if kernel.is_transposed else kernel.values
    mask = thresholds.m_by_n_mask(values, m, n)
    return np.swapaxes(mask, -1, -2) if kernel.is_transposed else mask


def _read(answer: Any) -> tuple[bool | None, float | None]:
    """What a schedule says: whether to prune, None where it does not say, and how much."""
    due, sparsity = answer if isinstance(answer, (tuple, list)) else (None, answer)
    if isinstance(sparsity, (str, bool)) or tuple(getattr(sparsity, "shape", ())):
        raise TypeError("A sparsity is a number.")
    due = None if due is None else bool(due)
    return due, None if due is False else float(sparsity)


def _pair(m_by_n: Any) -> tuple[int, int]:
    """`(m, n)` with 0 < m < n."""
    pair = tuple(m_by_n) if isinstance(m_by_n, (tuple, list)) else ()
    whole = len(pair) == 2 and all(isinstance(x, int) for x in pair)
    if not whole or not 0 < pair[0] < pair[1]:
        raise ValueError(
            "The sparsity_m_by_n of MagnitudePruning must be two whole numbers, m of n weights, "
            f"with 0 < m < n, such as (2, 4); received {m_by_n!r}."
        )
    return pair


def _packed(mask: np.ndarray) -> list[Any]:
    text = base64.b64encode(zlib.compress(np.packbits(mask).tobytes())).decode()
    return [list(mask.shape), text]


def _unpacked(packed: list[Any]) -> np.ndarray:
    shape, text = packed
    bits = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8)
    return np.unpackbits(bits, count=int(np.prod(shape))).reshape(shape).astype(bool)
