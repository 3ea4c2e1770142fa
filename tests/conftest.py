"""What every test starts from: one backend, fixed seeds, no state left by the test before."""

import functools
import gc
import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("MPLBACKEND", "agg")

import hypothesis
import pytest

BACKEND = os.environ["KERAS_BACKEND"]

# Time limits for one example say nothing while TensorFlow traces; CI has to repeat what it found.
hypothesis.settings.register_profile("default", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "default")


def pytest_configure(config):
    is_worker = hasattr(config, "workerinput")
    if is_worker or not getattr(config.option, "numprocesses", None):
        start_backend(one_thread=is_worker)  # not in the process that only hands out the tests
        spare_the_garbage_collector()


def start_backend(one_thread):
    """Sets what can only be set before the backend starts.

    Args:
        one_thread: Whether other workers have the other cores, so that more threads would only
            wait for each other.
    """
    if BACKEND == "tensorflow":
        import tensorflow as tf

        # One CPU as two logical devices: what the tests of tf.distribute run on.
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0],
            [tf.config.LogicalDeviceConfiguration(), tf.config.LogicalDeviceConfiguration()],
        )
        if one_thread:
            tf.config.threading.set_intra_op_parallelism_threads(1)
    elif BACKEND == "jax":
        import jax

        # Nearly all of a test's time there goes into compiling, anew for each shape.
        jax.config.update("jax_disable_most_optimizations", True)
        draw_weights_with_numpy()
    elif BACKEND == "torch" and one_thread:
        import torch

        torch.set_num_threads(1)


def spare_the_garbage_collector():
    """Takes the modules at hand, half a million objects, out of what is searched for garbage.

    And for models that hold a layer: each reconfiguration looks through all objects of the process.
    """
    import ptkeras  # noqa: F401

    gc.collect()
    gc.freeze()


def draw_weights_with_numpy():
    """Has NumPy draw initial weights: JAX compiles a program for each shape that it draws."""
    import jax
    import numpy as np
    from keras.src.backend.jax import random

    def replaced(function, draw):
        @functools.wraps(function)
        def drawn(shape, *args, seed=None, dtype=None, **kwargs):
            seed = random.jax_draw_seed(seed)
            if isinstance(seed, jax.core.Tracer):  # inside a compiled function
                return function(shape, *args, seed=seed, dtype=dtype, **kwargs)
            values = draw(np.random.default_rng(np.asarray(seed)), shape, *args, **kwargs)
            return jax.numpy.asarray(values, dtype or random.floatx())

        return drawn

    def normal(generator, shape, mean=0.0, stddev=1.0):
        return generator.normal(mean, stddev, shape)

    def truncated_normal(generator, shape, mean=0.0, stddev=1.0):
        return mean + stddev * np.clip(generator.normal(size=shape), -2, 2)

    def uniform(generator, shape, minval=0.0, maxval=1.0):
        return generator.uniform(minval, maxval, shape)

    for draw in (normal, truncated_normal, uniform):
        setattr(random, draw.__name__, replaced(getattr(random, draw.__name__), draw))


def pytest_report_header():
    return f"Keras backend: {BACKEND}"


def pytest_collection_modifyitems(items):
    if BACKEND != "tensorflow":
        skip = pytest.mark.skip(reason=f"needs the TensorFlow backend, not {BACKEND}")
        for item in items:
            if item.get_closest_marker("tensorflow"):
                item.add_marker(skip)


@pytest.fixture(autouse=True, scope="module")
def _forget_what_was_compiled():
    """JAX keeps each program that it compiled, gigabytes of them in the end."""
    yield
    if BACKEND == "jax":
        import jax

        jax.clear_caches()


@pytest.fixture(autouse=True)
def _fresh_keras():
    """Fixed seeds, layer names from zero, and the default dtype policy, in each test."""
    import keras

    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)
