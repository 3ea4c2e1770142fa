"""Random graphs, random masks, the exactness test."""

import hypothesis.strategies as st
import keras
import pytest

from ptkeras.channels import trace
from ptkeras.surgery.constants import DeadEndError
from tests.exactness import TRIES_FEW, assert_exact, inputs_for, random_keep, sparing_keep
from tests.helpers.random_networks import BATCH, Images, Sequences, Vectors, check_networks


def check(model, seed, share, sparing):
    channel_map = trace(model)
    keep = (sparing_keep if sparing else random_keep)(channel_map, seed, share)
    inputs = inputs_for(model, BATCH, seed)
    try:
        assert_exact(model, keep=lambda _: keep, seed=seed, tolerance=1e-4, inputs=inputs)
    except DeadEndError as error:
        inside = isinstance(error.tensor, keras.KerasTensor)  # of a map that was made again
        inside = inside and id(error.tensor) not in channel_map.tensors
        assert inside or channel_map.is_dead(keep, error.tensor)


DRAWN = (st.integers(0, 100), st.floats(0.1, 0.9), st.booleans())


@pytest.mark.compiles_much
@pytest.mark.filterwarnings("ignore:No rule says")
@pytest.mark.parametrize("kind", [Images, Sequences, Vectors])
def test_any_mask_of_any_network_is_exact_or_refused(kind):
    check_networks(kind, 10 if TRIES_FEW else 40, check, *DRAWN)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:No rule says")
@pytest.mark.parametrize("kind", [Images, Sequences, Vectors])
def test_any_mask_of_many_networks_is_exact_or_refused(kind):
    count = 2000 if keras.backend.backend() == "tensorflow" else 500
    check_networks(kind, -(-count // 3), check, *DRAWN)
