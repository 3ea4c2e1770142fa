"""PruneTrain in a training loop of the user's own."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from ptkeras.prunetrain.budget import BudgetSparsifier
from ptkeras.prunetrain.channels import ChannelPruning
from ptkeras.utils.arguments import check_number


class LoopPruning(ChannelPruning):
    """The methods of `PruneTrain` that a training loop calls, where no `fit` calls the hooks."""

    def bind(self, model: keras.Model, optimizer: Any = None, *, loss: Any = None) -> None:
        """Gets a model ready to be pruned in a training loop.

        Args:
            model: the model to prune, built.
            optimizer: the Keras optimizer that trains it; its slots are pruned with the weights.
                None for an optimizer that is not Keras's, which has to be made again whenever
                `end_epoch` returns True.
            loss: the loss of the initial model on a batch, without regularization: the lasso
                penalty ratio is a share of it. None leaves it to the first `after_step`.

        Raises:
            ValueError: If nothing could be pruned, the loss is not positive and finite, the model
                was compiled with another optimizer, or the interval is "auto".
        """
        self._check_optimizer(model, optimizer)
        if self._sparsifier.is_auto:
            raise ValueError(
                'PruneTrain(interval="auto") is for fit, whose steps it can time: give a training '
                "loop of your own an interval of so many epochs, or none."
            )
        self._is_in_fit = False
        self._optimizer = optimizer
        self._forget_other_model(model)
        try:
            self._take(model, model, optimizer)
            self._sparsifier.plan(self._epochs)
        except BaseException:
            self._sparsifier.detach(model, model)
            raise
        self._is_bound = True
        if self._lasso is not None and self.strength is None and loss is not None:
            value = float(ops.convert_to_numpy(loss))
            what = f"The loss given to PruneTrain.bind is {value}"
            self._lasso.set_strength(self._map, value, what)
        if optimizer is not None and getattr(model, "optimizer", None) is None:
            model.compile(optimizer=optimizer)  # so that reconfigurations see its slots

    def penalty(self, trainable_variables: Sequence[Any] | None = None) -> Any:
        """Returns λ·GL, a scalar to be added to the loss; it can be differentiated.

        It is 0 until λ is known.

        Args:
            trainable_variables: in a stateless step, as on JAX, the values of
                `model.trainable_variables`, in that order. None for the variables as they are.

        Raises:
            ValueError: If no model is bound, or the number of values is another one.
        """
        self._check_bound("penalty")
        variables = self._pruned.trainable_variables
        values = variables if trainable_variables is None else list(trainable_variables)
        if len(values) != len(variables):
            raise ValueError(
                f"PruneTrain.penalty takes the values of the {len(variables)} trainable variables "
                f"of '{self._pruned.name}', in their order; received {len(values)}."
            )
        return 0.0 if self._lasso is None else self._lasso.penalty(variables, values)

    def after_step(self, loss: Any = None) -> bool:
        """Sets λ after the first step, unless it is set; for a target, shrinks what is chosen.

        A Keras optimizer that `bind` was given shrinks by itself.

        Args:
            loss: the loss of that step, without regularization and penalty.

        Returns:
            Whether λ has been set just now: on JAX a step that `jax.jit` has compiled holds the
            penalty without it, and has to be made again.

        Raises:
            ValueError: If no model is bound, or λ is not set and the loss is missing or is not
                positive and finite.
        """
        self._check_bound("after_step")
        if isinstance(self._sparsifier, BudgetSparsifier):
            self._sparsifier.after_step(self._pruned)
            return False
        if self.strength is not None:
            return False
        if loss is None:
            raise ValueError(
                "PruneTrain.after_step needs the loss of the first step, since the lasso penalty "
                "ratio is a share of it: pass after_step(loss) or bind(model, optimizer, "
                "loss=loss), or give PruneTrain(strength=…), λ."
            )
        value = float(ops.convert_to_numpy(loss))
        what = f"The loss given to PruneTrain.after_step is {value}"
        self._sparsifier.set_strength(self._map, value, what)
        return True

    def end_epoch(self, examples: int, *, last: bool = False) -> bool:
        """Counts an epoch, and removes what has reached zero, if the interval or the stage is over.

        In a stateless loop, assign the trained values to the variables of the model and of the
        optimizer before, and read them from there after it.

        Args:
            examples: the number of examples that the epoch trained on.
            last: whether the training is over. The paper's ends with a reconfiguration; one with a
                target leaves the optimizer as it was.

        Returns:
            Whether the model has changed: functions that were compiled for it, by `tf.function` or
            `jax.jit`, have to be made again.

        Raises:
            ValueError: If no model is bound, `examples` is not a number from 0, or the epoch had
                no step that PruneTrain has seen, for a target.
        """
        self._check_bound("end_epoch")
        check_number("examples of PruneTrain.end_epoch", examples, lambda n: n >= 0, "0 or more")
        self._count(int(examples))
        self._epochs.trained += 1
        if last and self._lasso is not None:
            return self.reconfigure(self._epochs.trained)
        changed = self._end_epoch(always=self._lasso is None)
        if last:
            sentence = self._sparsifier.outcome(self._map, self._epochs, changed)
            if sentence is not None:
                warnings.warn(sentence, stacklevel=2)
            self._sparsifier.detach(self._pruned, self._pruned)
        return changed

    def figures(self) -> dict[str, float]:
        """Returns what the logs of `fit` get: `lasso`, `channels`, `params` and the FLOPs."""
        self._check_bound("figures")
        return self._figures()

    def _act(self) -> None:
        self._sparsifier.bind(self._map, self._optimizer)

    def _check_bound(self, method: str) -> None:
        if not getattr(self, "_is_bound", False):
            raise ValueError(
                f"PruneTrain.{method} belongs to a training loop of your own, and no model is "
                "bound: call bind(model, optimizer, loss=loss) first."
            )

    def _check_optimizer(self, model: keras.Model, optimizer: Any) -> None:
        if optimizer is None:
            return
        if not isinstance(optimizer, keras.optimizers.Optimizer):
            raise ValueError(
                "The optimizer of PruneTrain.bind must be one of Keras, whose slots are pruned "
                f"with the weights; received {optimizer!r}. Leave others out, and make them again "
                "whenever end_epoch returns True."
            )
        own = getattr(model, "optimizer", None)
        if own not in (None, optimizer):
            raise ValueError(
                f"'{model.name}' was compiled with another optimizer, '{own.name}', "
                f"than '{optimizer.name}': give bind the model's own, or compile it with this one."
            )
