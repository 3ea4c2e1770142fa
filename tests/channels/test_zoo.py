import warnings

import keras
import numpy as np
import pytest

from ptkeras.channels import trace
from ptkeras.surgery.constants import DeadEndError
from tests.exactness import (
    TRIES_FEW,
    assert_exact,
    assert_same,
    inputs_for,
    outputs_of,
    random_keep,
)
from tests.helpers import zoo_of_layers, zoo_of_operations  # noqa: F401  (they fill the zoo)
from tests.helpers.zoo import ZOO

# Ten seconds and more on JAX.
COMPILES_MUCH = {
    "attention_of_every_kind",
    "both_directions",
    "both_ways_in_every_mode",
    "convolutions_over_time",
    "convolutions_over_time_of_other_ranks",
    "embeddings_with_masks",
    "gated_units_of_both_kinds",
    "masks_of_features",
    "masks_through_a_network",
    "normalisation_of_every_kind",
    "recurrent_layers",
    "stacked_cells",
    "wrappers_in_wrappers",
}
NETWORKS = [
    pytest.param(name, marks=pytest.mark.compiles_much) if name in COMPILES_MUCH else name
    for name in ZOO
]


def mask(channel_map, seed):
    return random_keep(channel_map, seed, share=(0.3, 0.5, 0.8)[seed % 3])


def survivable(model, seed):
    """A mask that takes no tensor's last channel: what `PruneTrain` does about `DeadEndError`."""
    channel_map = trace(model)
    keep = mask(channel_map, seed)
    for channels in channel_map.tensors.values():
        channels = channels[channels >= 0]
        if channels.size and not keep[channels].any():
            keep[channels.flat[0]] = True
    return lambda _: keep


@pytest.mark.parametrize("name", NETWORKS)
def test_exact_and_saves_loads_and_clones_as_it_is(name, tmp_path):
    with warnings.catch_warnings():
        if name != "lambda_layer":
            warnings.filterwarnings("error", message="No rule says")
        model = ZOO[name]()
        before, after = assert_exact(model, keep=survivable(model, 0), seed=1)
    assert after <= before
    inputs = inputs_for(model)
    outputs = outputs_of(model, inputs)
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    assert_same(outputs, outputs_of(clone, inputs), 1e-6)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=False)
    if not (name == "turns_and_splits" and keras.backend.backend() == "jax"):
        # Keras hands JAX the list that JSON makes of rot90's axes, and JAX wants a tuple.
        assert_same(outputs, outputs_of(loaded, inputs), 1e-6)
    if keras.backend.backend() != "jax":  # which would compile each operation by itself
        model.compile("sgd", ["mse"] * len(outputs), run_eagerly=True)
        targets = keras.tree.pack_sequence_as(model._outputs_struct, outputs)
        assert np.isfinite(model.train_on_batch(inputs, targets)).all()
    # What is left can be pruned again.
    assert_exact(model, keep=survivable(model, 1), seed=2)


@pytest.mark.skipif(TRIES_FEW, reason="each further mask is compiled anew")
@pytest.mark.parametrize("seed", [2, *(pytest.param(n, marks=pytest.mark.slow) for n in (3, 4))])
@pytest.mark.parametrize("name", ZOO)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_any_mask_is_exact_or_refused(name, seed):
    model = ZOO[name]()
    channel_map = trace(model)
    keep = mask(channel_map, seed)
    try:
        assert_exact(model, keep=lambda _: keep, seed=seed)
    except DeadEndError as error:
        assert channel_map.is_dead(keep, error.tensor)
