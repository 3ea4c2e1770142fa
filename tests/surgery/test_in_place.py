"""After a reconfiguration everything is the object that it was, with fewer numbers."""

import threading

import keras
import numpy as np
import pytest
from keras import layers, ops

import ptkeras
from ptkeras.channels import trace
from tests.exactness import random_keep

X = np.random.default_rng(0).normal(size=(8, 6)).astype("float32")
Y = np.random.default_rng(1).normal(size=(8, 2)).astype("float32")


class InADict(keras.optimizers.Optimizer):
    """Momentum in a dict, by what `key` says of a weight and its number."""

    def __init__(self, key, secret, **kwargs):
        super().__init__(learning_rate=0.05, **kwargs)
        self.key, self.secret = key, secret

    def build(self, variables):
        if not self.built:
            super().build(variables)
            self.m = {
                self.key(i, v): {"m": self.add_variable_from_reference(v, "m")}
                for i, v in enumerate(variables)
            }

    def update_step(self, gradient, variable, learning_rate):
        number = self._get_variable_index(variable)
        m = self.m[self.key(number, self._trainable_variables[number])]["m"]
        self.assign(m, 0.9 * m + gradient)
        self.assign_sub(variable, learning_rate * m)


class Decay(keras.optimizers.schedules.LearningRateSchedule):
    """Has no config."""

    def __call__(self, step):
        return 0.1 * (ops.cast(step, "float32") + 1) ** -0.5


OPTIMIZERS = {
    "momentum": lambda: keras.optimizers.SGD(0.05, momentum=0.9),
    "adam": lambda: keras.optimizers.Adam(0.01, amsgrad=True),
    "ema": lambda: keras.optimizers.Adam(0.01, use_ema=True, ema_overwrite_frequency=2),
    "accumulated": lambda: keras.optimizers.Adam(0.01, gradient_accumulation_steps=2),
    "adafactor": lambda: keras.optimizers.Adafactor(0.01),
    "scaled": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.01)),
    "schedule": lambda: keras.optimizers.SGD(Decay(), momentum=0.9),
    "by number": lambda: InADict(lambda i, v: i, secret=object()),
    "by path": lambda: InADict(lambda i, v: v.path, secret=object()),
    "by id": lambda: InADict(lambda i, v: id(v), secret=object()),
}


class Own(keras.Model):
    def __init__(self):
        super().__init__()
        self.parts = {"a": layers.Dense(8, "relu"), "b": [layers.Dense(7, "relu")]}
        self.head = layers.Dense(2)

    def call(self, x):
        x = self.parts["a"](x)
        for part in self.parts["b"]:
            x = part(x)
        return self.head(x)


def chain():
    steps = [layers.Dense(8, "relu"), layers.Dense(7, "relu"), layers.Dense(2)]
    return keras.Sequential([keras.Input((6,)), *steps])


def objects(model):
    optimizer = model.optimizer
    found = [*model._flatten_layers(), *model.variables, optimizer, *optimizer.variables]
    return [*map(id, found), id(optimizer._learning_rate)]


def slots(optimizer):
    return {v.path: np.array(ops.convert_to_numpy(v.value)) for v in optimizer.variables}


# Keras 3.15 cannot `fit` a second time with use_ema on JAX, pruned or not.
TWICE = [n for n in OPTIMIZERS if n != "ema" or keras.backend.backend() != "jax"]


@pytest.mark.parametrize("build", [chain, Own])
@pytest.mark.parametrize("name", TWICE)
def test_all_objects_stay_and_every_weight_trains_on(name, build):
    keras.utils.set_random_seed(0)
    model = build()
    model.compile(OPTIMIZERS[name](), "mse")
    model.fit(X, Y, epochs=3, verbose=0)
    channel_map = trace(model)
    keep = random_keep(channel_map, seed=3)
    before, sizes = objects(model), [v.shape for v in model.trainable_variables]
    numbers = {k: v for k, v in slots(model.optimizer).items() if v.ndim}
    ptkeras.reconfigure(model, keep, channel_map=channel_map)
    assert objects(model) == before
    assert sum(a != v.shape for a, v in zip(sizes, model.trainable_variables, strict=True)) == 5
    after = slots(model.optimizer)
    for path, values in numbers.items():
        assert np.isin(after[path], values).all()  # what is left is taken from what was there
    weights = [ops.convert_to_numpy(v) for v in model.trainable_variables]
    history = model.fit(X, Y, epochs=4, verbose=0).history["loss"]
    assert np.isfinite(history).all()
    for old, new in zip(weights, model.trainable_variables, strict=True):
        assert np.abs(old - ops.convert_to_numpy(new)).max() > 0


def test_momentum_is_that_of_the_channels_that_are_kept():
    model = chain()
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), "mse")
    model.fit(X, Y, epochs=2, verbose=0)
    channel_map = trace(model)
    keep = random_keep(channel_map, seed=3)
    made = channel_map.produced()[model.layers[0].path]
    momentum = ops.convert_to_numpy(model.optimizer.momentums[0])
    ptkeras.reconfigure(model, keep, channel_map=channel_map)
    np.testing.assert_array_equal(
        ops.convert_to_numpy(model.optimizer.momentums[0]), momentum[:, keep[made]]
    )


def test_what_a_callback_keeps_is_what_is_used():
    rates = []

    class Warmup(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.rate = self.model.optimizer.learning_rate

        def on_epoch_begin(self, epoch, logs=None):
            self.rate.assign(0.1 / (epoch + 1))
            if epoch == 1:
                ptkeras.prune(self.model, 0.4)

        def on_epoch_end(self, epoch, logs=None):
            rates.append(float(self.model.optimizer.learning_rate))

    model = chain()
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(X, Y, epochs=3, verbose=0, callbacks=[Warmup()])
    np.testing.assert_allclose(rates, [0.1, 0.05, 0.1 / 3], rtol=1e-6)


def tied():
    inputs = keras.Input((6,))
    a, b = layers.Dense(6, name="a"), layers.Dense(6, name="b")
    outputs = layers.Dense(2)(b(layers.ReLU()(a(layers.Dense(6)(inputs)))))
    b._tracker.unlock()
    b._tracker.untrack(b._kernel)
    b._kernel = a._kernel
    b._tracker.lock()
    return keras.Model(inputs, outputs)


def test_a_variable_of_two_layers_stays_one():
    model = tied()
    model.compile("adam", "mse")
    model.fit(X, Y, verbose=0)
    count = len(model.trainable_variables)
    ptkeras.prune(model, 0.3)
    a, b = model.get_layer("a"), model.get_layer("b")
    assert a._kernel is b._kernel and len(model.trainable_variables) == count
    assert a.units == b.units == a._kernel.shape[1] == a._kernel.shape[0] < 6
    model.fit(X, Y, verbose=0)


class Patches(layers.Layer):
    """Its config is not whole, and its code cannot be seen through."""

    def __init__(self, number, width):
        super().__init__()
        self.number, self.projection = number, layers.Dense(width)

    def call(self, x):
        if isinstance(x, keras.KerasTensor):
            raise TypeError("takes no symbolic tensors.")
        return self.projection(x)


@pytest.mark.filterwarnings("ignore:No rule says")
def test_an_opaque_layer_is_left_as_it_is():
    inputs = keras.Input((6,))
    patches = Patches(6, 16)
    model = keras.Model(inputs, layers.Dense(3)(layers.Dense(12)(patches(inputs))))
    held, kernel = dict(vars(patches)), patches.projection.kernel
    ptkeras.prune(model, 0.5)
    assert {k: v for k, v in vars(patches).items() if k in held} == held
    assert patches.projection.kernel is kernel and kernel.shape == (6, 16)


def test_two_threads_prune_at_the_same_time():
    zeros, errors = [], []

    def work():
        try:
            for _ in range(4):
                model = chain()
                if not np.any(ops.convert_to_numpy(model.layers[0].kernel)):
                    zeros.append(model)
                ptkeras.prune(model, 0.3)
        except Exception as error:
            errors.append(error)

    own = vars(layers.Layer).copy()
    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not zeros and not errors
    assert dict(vars(layers.Layer)) == dict(own)
