"""The layers that Keras lacks: the switch of a gate, and a block whose branch may be skipped."""

from __future__ import annotations

import threading
import weakref
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from ptkeras import cost
from ptkeras.channels.registry import Call, Outputs, register
from ptkeras.surgery.configs import register_adjuster

Mode = Literal["open", "soft", "hard", "sample"]


class _Steps(threading.local):
    """What switches have done: replicas of tf.distribute run in threads of their own."""

    def __init__(self) -> None:
        self.of: weakref.WeakKeyDictionary[Any, tuple[Any, Any]] = weakref.WeakKeyDictionary()


_STEPS = _Steps()


@keras.saving.register_keras_serializable("ptkeras")
class Switch(keras.layers.Layer):
    """The decision of a gate: 1 to run the block's branch, 0 to skip it.

    At inference, and in training by mode, with p = sigmoid(logit):

        inference, "hard"    1 where logit > 0, else 0
        "soft"               p
        "sample"             1 with probability p
        "open"               1, at inference too

    Behind "hard" the gradient goes to p, as if p had been put out (straight-through); behind
    "sample" none does.

    Args:
        **kwargs: name and the like.

    Attributes:
        mode: one of the four; "hard" at first, and after loading. Compiled functions hold on to it:
            `SkipNet` sets it and makes them anew.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mode: Mode = "hard"
        self.seed_generator = keras.random.SeedGenerator()

    def call(self, logits: Any, training: bool | None = None) -> Any:
        """Decides.

        Args:
            logits: of shape `(batch, 1)`.
            training: whether the mode counts.

        Returns:
            The decisions, of the same shape.
        """
        if self.mode == "open":
            one = ops.ones_like(logits)
            # Optimisers warn of weights without a gradient: in training it is zero.
            return one + 0 * logits if training else one
        if not training:
            return decided(logits)
        probability = ops.sigmoid(logits)
        if self.mode == "soft":
            return probability
        if self.mode == "hard":
            # The difference is 0, and the decision exactly 0 or 1.
            return decided(logits) + (probability - ops.stop_gradient(probability))
        draw = keras.random.uniform(ops.shape(logits), dtype=logits.dtype, seed=self.seed_generator)
        action = ops.stop_gradient(ops.cast(draw < probability, logits.dtype))
        _STEPS.of[self] = logits, action
        return action

    def taken(self) -> tuple[Any, Any]:
        """The logits and actions of the last call in mode "sample"; they are told once."""
        return _STEPS.of.pop(self)

    def compute_output_spec(self, logits: Any, training: bool | None = None) -> Any:
        return keras.KerasTensor(logits.shape, dtype=logits.dtype)


def decided(logits: Any) -> Any:
    """1 where a logit is over 0, else 0, by operations that every exporter knows."""
    return ops.relu(ops.sign(logits))


@register(Switch)
def _switch(call: Call) -> Outputs:
    return call.untouched()


@register_adjuster(Switch)
def _same_mode(old: Switch, new: Switch) -> None:
    new.mode = old.mode


@keras.saving.register_keras_serializable("ptkeras")
class Skip(keras.layers.Layer):
    """A residual block that computes its branch for those images alone that take it.

        y = x + branch(x) where the decision is 1, else x

    Called eagerly, or in a TensorFlow function, the images of the batch that take the branch are
    gathered, and nothing runs where there are none; for a batch of one image that is a plain
    conditional. In a compiled JAX function, whose shapes are fixed, the branch runs for the whole
    batch unless no image takes it. It is for inference.

    Args:
        branch: a Functional model of one input and one output of the same shape.
        **kwargs: name and the like.
    """

    def __init__(self, branch: keras.Model, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.branch = branch
        self.supports_jit = False  # XLA has no sizes that depend on numbers

    def call(self, inputs: tuple[Any, Any], training: bool | None = None) -> Any:
        """Runs the block.

        Args:
            inputs: what enters the block, of shape `(batch, …)`, and the decisions, `(batch, 1)`.
            training: must not be true.

        Returns:
            What leaves it, of the shape of what enters.

        Raises:
            ValueError: it is asked to train.
        """
        if training:
            raise ValueError(
                f"'{self.name}' skips branches, for inference only: train the network that "
                "ptkeras.skipnet.skipping was given."
            )
        x, decision = inputs
        takes = ops.reshape(decision, (-1,)) > 0.5
        if (number := _numbers(takes)) is not None:
            return self._eager(x, np.flatnonzero(number))
        if x.shape[0] == 1:
            return ops.cond(takes[0], lambda: x + self.branch(x, training=False), lambda: x)
        run = self._gathered if keras.config.backend() == "tensorflow" else self._masked
        return ops.cond(ops.any(takes), lambda: run(x, takes), lambda: x)

    def _eager(self, x: Any, indices: np.ndarray) -> Any:
        if len(indices) == 0:
            return x
        if len(indices) == x.shape[0]:
            return x + self.branch(x, training=False)
        return self._scattered(x, indices)

    def _gathered(self, x: Any, takes: Any) -> Any:
        (indices,) = ops.nonzero(takes)
        return self._scattered(x, indices)

    def _scattered(self, x: Any, indices: Any) -> Any:
        some = ops.take(x, indices, axis=0)
        new = some + self.branch(some, training=False)
        return ops.scatter_update(x, ops.expand_dims(indices, 1), new)

    def _masked(self, x: Any, takes: Any) -> Any:
        takes = ops.reshape(takes, (-1, *[1] * (len(x.shape) - 1)))
        return x + ops.cast(takes, x.dtype) * self.branch(x, training=False)

    def compute_output_spec(self, inputs: tuple[Any, Any], training: bool | None = None) -> Any:
        return keras.KerasTensor(inputs[0].shape, dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        branch = keras.saving.serialize_keras_object(self.branch)
        return super().get_config() | {"branch": branch}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Skip:
        """Makes the layer again, its branch too."""
        config = dict(config)
        branch = keras.saving.deserialize_keras_object(config.pop("branch"))
        return cls(branch, **config)


@register(Skip)
def _skip(call: Call) -> Outputs:
    """What is skipped at inference is pruned before: its channels stay as they are."""
    return call.untouched()


@cost.register(Skip)
def _whole_branch(call: cost.Call) -> int:
    """As if it were run."""
    return call.inputs[0][0] * cost.macs(call.operation.branch)


def _numbers(tensor: Any) -> np.ndarray | None:
    """The numbers of a tensor; None inside a function that is being compiled."""
    backend = keras.config.backend()
    if backend == "tensorflow":
        return tensor.numpy() if hasattr(tensor, "numpy") else None
    if backend == "jax":
        import jax

        if isinstance(tensor, jax.core.Tracer):
            return None
    return ops.convert_to_numpy(tensor)
