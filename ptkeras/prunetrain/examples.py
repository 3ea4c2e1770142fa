"""Number of examples that a `fit` has trained on."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Any

import keras


class ExampleCounter:
    """Counts the examples in the batches that a model's training steps get.

    No metric of the model says it: a `train_step` of the user's may leave them all alone.

    Args:
        model: the model in `fit`. Its next training function counts.
    """

    def __init__(self, model: keras.Model) -> None:
        self._users: weakref.WeakSet[Any] = weakref.WeakSet()
        self._model = model
        self._name = _hooked_method()
        self._replaced = vars(model).get(self._name)  # one that the user had set
        self._plain = getattr(model, self._name)
        self._count = _Total(model)
        setattr(model, self._name, self._hook)

    @property
    def total(self) -> int:
        """Number of examples so far."""
        return self._count.read()

    @property
    def input_shape(self) -> Any:
        """Shape of one example of the last batch that a step was made for."""
        return self._count.input_shape

    def release(self, user: Any) -> None:
        """Takes the counter off the model, unless others use it."""
        self._users.discard(user)
        if self._users or _counter_on(self._model) is not self:
            return
        delattr(self._model, self._name)
        if self._replaced is not None:
            setattr(self._model, self._name, self._replaced)

    def _hook(self, *args: Any, **kwargs: Any) -> Any:
        if self._name == "train_step":
            self._count.add(args[-1])
            return self._plain(*args, **kwargs)
        model = self._model
        before = model.train_function
        result = self._plain(*args, **kwargs)
        if model.train_function is not before and model.train_function is not None:
            model.train_function = self._count.counting(model.train_function)
        return result


def counter_of(model: keras.Model, user: Any) -> ExampleCounter:
    """Returns the counter of a model, which stays until all of its users have released it.

    Args:
        model: the model in `fit`.
        user: whoever reads the counter.
    """
    counter = _counter_on(model) or ExampleCounter(model)
    counter._users.add(user)
    return counter


def _counter_on(model: keras.Model) -> ExampleCounter | None:
    owner = getattr(vars(model).get(_hooked_method()), "__self__", None)
    return owner if isinstance(owner, ExampleCounter) else None


def _hooked_method() -> str:
    # TensorFlow draws batches inside of its graph, and JAX's compiled step sees no Python.
    return "train_step" if keras.config.backend() == "tensorflow" else "make_train_function"


class _Total:
    """A number that steps add to: in a variable where TensorFlow compiles them."""

    def __init__(self, model: keras.Model) -> None:
        self._number: Any = 0
        self.input_shape: Any = None
        if keras.config.backend() == "tensorflow":
            import tensorflow as tf

            with model.distribute_strategy.scope():
                self._number = tf.Variable(
                    0,
                    trainable=False,
                    dtype="int64",
                    synchronization=tf.VariableSynchronization.ON_READ,
                    aggregation=tf.VariableAggregation.SUM,
                )

    def read(self) -> int:
        number = self._number
        return int(number) if isinstance(number, int) else int(number.read_value())

    def add(self, data: Any) -> None:
        x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        leaf = next((leaf for leaf in keras.tree.flatten(x) if leaf is not None), None)
        if leaf is None:
            return
        self.input_shape = keras.tree.map_structure(lambda v: tuple(v.shape[1:]), x)
        if isinstance(self._number, int):
            self._number += int(leaf.shape[0])
            return
        import tensorflow as tf

        self._number.assign_add(tf.cast(tf.shape(leaf)[0], "int64"))

    def counting(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Returns a training function of JAX or PyTorch that counts what it gets."""
        if keras.config.backend() == "jax":
            return lambda state, iterator: function(state, self._batches(iterator))

        def count_and_train(data: Any) -> Any:
            self.add(data[0])
            return function(data)

        return count_and_train

    def _batches(self, iterator: Iterator[Any]) -> Iterator[Any]:
        for data in iterator:
            self.add(data)
            yield data
