"""The group lasso on a model's kernels, for the time of a training.

The lasso is in two places. Its value is among the losses of the model, so that a loss that is the
sum of them shows it. Its gradient is added where an optimizer applies the gradients of the loss:
so it acts even if a `train_step` leaves out `self.losses`, as that of a GAN or of
`keras.distillation.Distiller` does.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from ptkeras.channels import ChannelMap
from ptkeras.importance import Measure, group_magnitudes, kernel_slices
from ptkeras.prunetrain import shrinking
from ptkeras.prunetrain.steps import OptimizerStep, steps_on
from ptkeras.regularizers import EPSILON, GroupLasso
from ptkeras.surgery.functions import refresh_functions
from ptkeras.utils.trainers import optimizers_of


class AttachedLasso(GroupLasso):
    """A `GroupLasso` that a callback put on a variable, and will take off again.

    Attributes:
        trainer: a weak reference to the model whose `fit` trains the variable, or None.
        probe: what finds out whether the penalty is in the loss, or None.
    """

    trainer: weakref.ref | None = None
    probe: Probe | None = None

    def penalty(self, kernel: Any) -> Any:
        """Returns the penalty as a number, whose gradient the optimizer adds."""
        penalty = ops.stop_gradient(super().penalty(kernel))
        return penalty if self.probe is None else penalty + self.probe(kernel)


class Probe:
    """Finds out whether the losses of a model are in the loss that a training step differentiates.

    That they were read says little: on JAX Keras reads them in every step. The probe is zero, and
    notices when its gradient is asked for.

    Attributes:
        is_in_loss: whether it was.
    """

    is_in_loss = False

    def __call__(self, kernel: Any) -> Any:
        """Returns a zero that depends on a kernel."""
        kernel = ops.convert_to_tensor(kernel)
        if keras.config.backend() == "jax":
            return self._jax_zero(kernel)

        @ops.custom_gradient
        def zero(values: Any) -> Any:
            def gradient(*args: Any, upstream: Any = None) -> Any:
                self.is_in_loss = True
                return ops.zeros_like(values)

            return _zero(values), gradient

        return zero(kernel)

    def _jax_zero(self, kernel: Any) -> Any:
        # JAX also asks for gradients of what is in no loss; then the cotangent is a SymbolicZero.
        import jax

        def backward(values: Any, cotangent: Any) -> tuple[Any]:
            is_zero = isinstance(cotangent, jax.custom_derivatives.SymbolicZero)
            self.is_in_loss = self.is_in_loss or not is_zero
            return (ops.zeros_like(values),)

        zero = jax.custom_vjp(_zero)
        zero.defvjp(lambda x: (_zero(x.value), x.value), backward, symbolic_zeros=True)
        return zero(kernel)


def _zero(values: Any) -> Any:
    return ops.cast(ops.sum(ops.zeros_like(values)), keras.config.floatx())


class LassoStep(OptimizerStep):
    """Adds the gradient of the lasso to that of the loss."""

    def before(self, grads: list[Any], variables: Sequence[Any]) -> list[Any]:
        """Returns the gradients with those of the lasso."""
        return [self._with_lasso(g, v) for g, v in zip(grads, variables, strict=True)]

    def _with_lasso(self, grad: Any, variable: Any) -> Any:
        regularizer = getattr(variable, "regularizer", None)
        if grad is None or not isinstance(regularizer, AttachedLasso):
            return grad
        self.reached.add(id(variable))
        lasso = regularizer.gradient(variable)
        lasso = lasso * (self._loss_scale() / _replicas())
        return ops.convert_to_tensor(grad) + ops.cast(lasso, grad.dtype)

    def _loss_scale(self) -> float:
        """Returns the factor by which the optimizer divides its gradients."""
        return self.optimizer.loss_scale_factor or 1.0


def attach(
    channel_map: ChannelMap,
    strength: float | keras.Variable,
    free: np.ndarray | None = None,
    trainer: keras.Model | None = None,
    probe: Probe | None = None,
) -> None:
    """Regularizes every kernel of a model over its channels, beside what regularizes it already.

    The regularizer hangs on the variables, not in the configs of the layers: a model saved
    meanwhile loads without ptkeras. Frozen channels, the network's inputs and outputs among them,
    are in no group; neither are kernels that do not train.

    Args:
        channel_map: the channels of the model.
        strength: λ, see `GroupLasso`.
        free: a bool per channel, the channels to regularize; None for all that are not frozen.
        trainer: the model whose `fit` trains them: its optimizers add the gradient, and those of
            the models in it. None for the model itself.
        probe: finds out whether the lasso is in the loss too.
    """
    model = channel_map.model
    detach(model)
    trainer = model if trainer is None else trainer
    groups = groups_of(channel_map, ~channel_map.frozen if free is None else free)
    for variable in model.trainable_variables:
        if id(variable) not in groups:
            continue
        regularizer = AttachedLasso(strength, groups[id(variable)], base=variable.regularizer)
        regularizer.trainer, regularizer.probe = weakref.ref(trainer), probe
        probe = None  # one kernel is enough
        variable.regularizer = regularizer
    for optimizer in optimizers_of(trainer):
        if not _lasso_steps(optimizer):
            LassoStep(optimizer)


def groups_of(channel_map: ChannelMap, free: np.ndarray) -> dict[int, dict[int, np.ndarray]]:
    """Returns the `groups` of a `GroupLasso` for the `id` of each kernel that trains.

    Args:
        channel_map: the channels of a model.
        free: a bool per channel, those that are regularized.
    """
    groups: dict[int, dict[int, np.ndarray]] = {}
    for row in kernel_slices(channel_map):
        ids = np.where(free[row.channels], row.channels, -1)
        if row.variable.trainable and (ids >= 0).any():
            groups.setdefault(id(row.variable), {})[row.axis] = ids
    return groups


def detach(model: keras.Model) -> None:
    """Takes off what `PruneTrain` put on, also after a `fit` that an exception ended.

    Args:
        model: the model that the lasso is on, or one that it is a part of.
    """
    if shrinking.detach(model):
        refresh_functions(model)
    trainers = {}
    for variable in model.weights:
        regularizer = variable.regularizer
        if isinstance(regularizer, AttachedLasso):
            variable.regularizer = regularizer.base
            trainer = regularizer.trainer and regularizer.trainer()
            if trainer is not None:
                trainers[id(trainer)] = trainer
    for trainer in trainers.values():
        if not is_attached(trainer):
            for optimizer in optimizers_of(trainer):
                for step in _lasso_steps(optimizer):
                    step.remove()
        refresh_functions(trainer)  # compiled steps have read the lasso


def is_attached(model: keras.Model) -> bool:
    """Returns whether `attach` has put something on a model that is there still."""
    return any(isinstance(v.regularizer, AttachedLasso) for v in model.weights)


def kernels_of(model: keras.Model) -> list[keras.Variable]:
    """Returns the variables of a model that have a lasso."""
    return [v for v in model.weights if isinstance(v.regularizer, AttachedLasso)]


def _lasso_steps(optimizer: keras.optimizers.Optimizer) -> list[LassoStep]:
    return [step for step in steps_on(optimizer) if isinstance(step, LassoStep)]


def _replicas() -> int:
    """Returns over how many replicas the gradients are summed."""
    if keras.config.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync


def held_channels(channel_map: ChannelMap, threshold: float, measure: Measure) -> np.ndarray:
    """Returns the channels that training cannot bring to zero, a bool per channel.

    They have a group over the threshold in a kernel that does not train.

    Args:
        channel_map: the channels of a model.
        threshold: the sparsity threshold.
        measure: how large a group is.
    """
    held = np.zeros(len(channel_map), bool)
    for row in kernel_slices(channel_map):
        if not row.variable.trainable:
            held |= ~(group_magnitudes(channel_map, row, measure) < threshold)
    return held


def group_norms(channel_map: ChannelMap, free: np.ndarray | None = None) -> float:
    """Returns the group lasso of a model with strength 1, GL in the paper's equation 3.

    Args:
        channel_map: the channels of the model.
        free: a bool per channel, those that are regularized; None for all that are not frozen.
    """
    free = ~channel_map.frozen if free is None else free
    total = 0.0
    for row in kernel_slices(channel_map):
        if not row.variable.trainable:
            continue
        (squares,) = channel_map.sums(np.square, [row])
        used = free[row.channels]
        sums = np.bincount(row.channels[used], squares[used])
        total += float(np.sqrt(sums[np.unique(row.channels[used])] + EPSILON).sum())
    return total


def strength_for(ratio: float, loss: float, norms: float) -> float:
    """Returns λ from the lasso penalty ratio: λ·GL / (CE + λ·GL) = ratio (PruneTrain, equation 3).

    Args:
        ratio: the share of the whole loss that the penalty is to be, between 0 and 1.
        loss: CE, the loss of the initial network without regularization.
        norms: GL, the group lasso of the initial network with strength 1.
    """
    return ratio * loss / ((1.0 - ratio) * norms)
