"""What an optimizer keeps: its weights, their slots, and the keys that it knows them by.

All names are private in Keras 3.12 to 3.15. `Optimizer.variables` is public: a flat list, which
does not say whose slot is whose.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras

# Attributes of an optimizer, for a log of changes and a walk over `vars`. A public map of slots by
# weight would make all of them needless.
WEIGHTS = "_trainable_variables"  # since Keras 3.0
NO_SLOTS = (WEIGHTS, "_variables", "_tracker")  # lists of variables besides; since Keras 3.0
WEIGHT_NUMBERS = "_trainable_variables_indices"  # position by key; since Keras 3.0
DECAY_CACHE = "_exclude_from_weight_decay_cache"  # all of Keras 3.12 to 3.15
ROW_FACTORS, COLUMN_FACTORS = "_r", "_c"  # slots of `Adafactor`, which lack an axis; Keras 3.0


def weights_of(optimizer: Any) -> list[keras.Variable]:
    """Returns the weights that an optimizer was built for; none if it was not.

    Since Keras 3.0. A public list of them would make this needless.
    """
    return list(getattr(optimizer, WEIGHTS, None) or ())


def state_of(optimizer: keras.optimizers.Optimizer) -> list[keras.Variable]:
    """Returns the very list of an optimizer's own variables: its counters and slots.

    Since Keras 3.0. `Optimizer.variables` is a copy; a public way to drop a slot would make this
    needless.
    """
    return optimizer._variables


def moving_averages_of(optimizer: keras.optimizers.Optimizer) -> list[keras.Variable]:
    """Returns the averages over the steps (`use_ema`), in the order of `weights_of`.

    Since Keras 3.0. A public name would make this needless.
    """
    return optimizer._model_variables_moving_average


def track_variable(optimizer: keras.optimizers.Optimizer, variable: keras.Variable) -> None:
    """Adds a variable to the state of an optimizer.

    Since Keras 3.0. `add_variable` is public and makes a new one; a public way to add one that is
    there would make this needless.
    """
    optimizer._track_variable(variable)


def untrack_variable(optimizer: keras.optimizers.Optimizer, variable: keras.Variable) -> None:
    """Takes a variable out of the state of an optimizer; see `track_variable`.

    All of Keras 3.12 to 3.15.
    """
    optimizer._untrack_variable(variable)


def steps_counter_of(optimizer: keras.optimizers.Optimizer) -> keras.Variable:
    """Returns the variable that counts the steps of an optimizer.

    All of Keras 3.12 to 3.15. `Optimizer.iterations` is a quotient if gradients are accumulated,
    and that of the inner optimizer if losses are scaled; the variable itself would do.
    """
    return optimizer._iterations


def learning_rate_of(optimizer: Any) -> Any:
    """Returns the learning rate as it was given: a variable, a schedule or a function; or None.

    Since Keras 3.0. `Optimizer.learning_rate` is what a schedule says now; a public name of the
    schedule would make this needless.
    """
    return getattr(optimizer, "_learning_rate", None)


def key_of(optimizer: keras.optimizers.Optimizer, weight: keras.Variable) -> Any:
    """Returns the key by which an optimizer knows a weight.

    Since Keras 3.0. On TensorFlow it is that of the tensor in the variable, which changes with its
    shape; a key that stays would make this needless.
    """
    return optimizer._var_key(weight)


def numbers_by_key(optimizer: Any) -> dict[Any, int]:
    """Returns the position among `weights_of` by key; none if the optimizer was not built.

    Since Keras 3.0. What would make `key_of` needless would do here, too.
    """
    return getattr(optimizer, WEIGHT_NUMBERS, {})


def copy_exclusions(
    old: Any, new: Any, pairs: Iterable[tuple[keras.Variable, keras.Variable]]
) -> None:
    """Has an optimizer decay no weight whose former self another one does not decay.

    Since Keras 3.0. `exclude_from_weight_decay` is public, but refuses an optimizer that is built;
    a public list of what was excluded would make this needless.

    Args:
        old: the optimizer that knows the former weights.
        new: the optimizer to change.
        pairs: weights before, and what each of them has become.
    """
    if hasattr(new, "_exclude_from_weight_decay"):
        new._exclude_from_weight_decay = {
            new._var_key(after) for before, after in pairs if not old._use_weight_decay(before)
        }
        new._exclude_from_weight_decay_cache = {}
