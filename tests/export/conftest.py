import keras
import pytest

from tests.helpers import exported_networks as networks


@pytest.fixture(scope="module")
def model():
    """A small network; exporting must not change it."""
    keras.utils.set_random_seed(0)
    return networks.small()
