"""What Keras 3 lets differ between the replicas of a model under `tf.distribute`."""

from __future__ import annotations

from typing import Any

import keras


def average_statistics(model: keras.Model) -> None:
    """Gives all replicas the mean of their moving statistics, on all workers.

    Under `tf.distribute` Keras 3 (3.15 at least) leaves every replica the moving statistics of its
    own part of each batch, and saves those of the first. Moving averages are linear: the mean of
    them, taken once behind an epoch, is what an average of the batches' statistics over all
    replicas in each step would have come to, and costs next to nothing.

    Args:
        model: the model. Without a strategy of several replicas nothing is done to it.
    """
    strategy = getattr(model, "distribute_strategy", None)
    if strategy is None or strategy.num_replicas_in_sync == 1:
        return
    variables = [v for v in model.non_trainable_variables if "float" in v.dtype]
    if not variables:
        return
    import tensorflow as tf

    parts = [strategy.experimental_local_results(v.value) for v in variables]

    def flat(replica: int) -> tf.Tensor:
        # In float64 the mean of equal numbers is that number, for every number of replicas.
        numbers = [tf.reshape(tf.cast(part[replica], tf.float64), [-1]) for part in parts]
        return tf.concat(numbers, 0)

    means = per_replica(strategy, flat)
    sizes = [v.shape.num_elements() for v in variables]
    means = tf.split(strategy.reduce("MEAN", means, axis=None), sizes)
    for variable, mean in zip(variables, means, strict=True):
        variable.assign(tf.cast(tf.reshape(mean, variable.shape), variable.dtype))


def per_replica(strategy: Any, value_of: Any) -> Any:
    """A value for each replica of this process.

    Args:
        strategy: a `tf.distribute.Strategy`.
        value_of: makes it from the number of the replica, counted from 0 in this process.
    """
    numbers = iter(range(strategy.num_replicas_in_sync))  # they are asked for in their order
    return strategy.experimental_distribute_values_from_function(lambda _: value_of(next(numbers)))
