"""What every test starts from: one backend, fixed seeds, no state left by the test before."""

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("MPLBACKEND", "agg")

import hypothesis
import keras
import pytest

BACKEND = keras.backend.backend()
XDIST = "PYTEST_XDIST_WORKER" in os.environ

if BACKEND == "tensorflow":
    import tensorflow as tf

    # Two logical devices on one CPU are what the tests of tf.distribute run on. They can only be
    # made before TensorFlow starts, so every test has them.
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration(), tf.config.LogicalDeviceConfiguration()],
    )
    if XDIST:  # one process a core already: more threads only wait for each other
        tf.config.threading.set_intra_op_parallelism_threads(1)
elif BACKEND == "torch" and XDIST:
    import torch

    torch.set_num_threads(1)

# Time limits for one example say nothing while TensorFlow traces; CI has to repeat what it found.
hypothesis.settings.register_profile("default", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "default")


def pytest_report_header():
    return f"keras {keras.__version__} on {BACKEND}"


def pytest_collection_modifyitems(items):
    if BACKEND != "tensorflow":
        skip = pytest.mark.skip(reason=f"needs the TensorFlow backend, not {BACKEND}")
        for item in items:
            if item.get_closest_marker("tensorflow"):
                item.add_marker(skip)


@pytest.fixture(autouse=True)
def _fresh_keras():
    """Fixed seeds, layer names from zero, and the default dtype policy, in each test."""
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)
