"""The networks that tutorials teach: traced, pruned, trained, made functional and exported."""

import warnings

import keras
import numpy as np
import pytest

import ptkeras
from ptkeras import export
from ptkeras.channels import trace
from ptkeras.importance import channel_magnitudes
from tests.exactness import assert_exact, assert_same, outputs_of, randomise, sparing_keep
from tests.helpers.tutorials import OPAQUE, TUTORIALS, generative

# These are trained, compiled, saved and exported in the quick suite too.
REPRESENTATIVE = ("swin", "detector", "llama_like", "gru_translator", "mlp_mixer")
# Arrays in its code go by the number of its features and of its classes.
KEEPS_ALL = ("decision_tree",)
pytestmark = [pytest.mark.compiles_much, pytest.mark.thorough]
every_tutorial = pytest.mark.parametrize("name", TUTORIALS)
all_but_a_few_slow = pytest.mark.parametrize(
    "name",
    [
        name if name in REPRESENTATIVE else pytest.param(name, marks=pytest.mark.slow)
        for name in TUTORIALS
    ],
)


def built(name, randomised=True):
    """A tutorial, the model that is to be pruned, and two examples for it."""
    tutorial = TUTORIALS[name]
    part = tutorial.part(tutorial.build())
    if randomised:
        randomise(part)
    return tutorial, part, tutorial.inputs(part, 2)


def assert_finite(outputs):
    assert outputs and all(np.isfinite(x).all() for x in outputs)


@all_but_a_few_slow
def test_builds_and_answers(name):
    _, part, inputs = built(name, randomised=False)
    assert part.built and part.count_params() > 0
    outputs = outputs_of(part, inputs)
    assert_finite(outputs)
    assert_same(outputs, outputs_of(part, inputs), 1e-6)


@every_tutorial
def test_trace_sees_through(name):
    _, part, _ = built(name, randomised=False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        channel_map = trace(part)
    assert [str(w.message) for w in caught if w.category is UserWarning] == []
    loose = trace(part, exact=False)
    assert (channel_map.prunable.any() or loose.prunable.any()) == (name not in KEEPS_ALL)


@every_tutorial
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_pruning_is_exact(name):
    _, part, inputs = built(name)
    before, after = assert_exact(part, sparing_keep, tolerance=1e-4, inputs=inputs)
    assert after <= before
    # What is left can be pruned on, through normalisation too.
    outputs = outputs_of(part, inputs)
    channel_map = trace(part, exact=False)
    ptkeras.reconfigure(part, sparing_keep(channel_map, seed=1), channel_map=channel_map)
    assert (part.count_params() < before) == (name not in KEEPS_ALL)
    smaller = outputs_of(part, inputs)
    assert_finite(smaller)
    assert [x.shape for x in smaller] == [x.shape for x in outputs]


@all_but_a_few_slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_trains_and_shrinks(name):
    tutorial = TUTORIALS[name]
    if tutorial.uses_tape and keras.backend.backend() != "tensorflow":
        pytest.skip("its training is TensorFlow's")
    model = tutorial.build()
    part = tutorial.part(model)
    channel_map = trace(part)
    if not channel_map.prunable.any():
        pytest.skip("all that may go of it goes at a loss")
    sizes = channel_magnitudes(channel_map, "max")[channel_map.prunable]
    arguments = {} if part is model else {"model": part}
    callback = ptkeras.PruneTrain(
        interval=1, threshold=1.2 * float(np.median(sizes)), verbose=0, **arguments
    )
    if tutorial.custom_train:
        callback.strength = 1e-4  # its logs may have no loss, or a negative one
    before = part.count_params()
    tutorial.train(model, [callback], run_eagerly=name not in REPRESENTATIVE)
    assert tutorial.part(model) is part
    assert part.count_params() < before
    assert all(np.isfinite(keras.ops.convert_to_numpy(w.value)).all() for w in model.weights)
    assert_finite(outputs_of(part, tutorial.inputs(part, 2)))


@all_but_a_few_slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_functional_form_saves_and_loads(name, tmp_path):
    _, part, inputs = built(name)
    outputs = outputs_of(part, inputs)
    functional = ptkeras.as_functional(part)
    assert_same(outputs, outputs_of(functional, inputs), 1e-5)
    functional.save(tmp_path / "model.keras")
    # No layer of Keras draws numbers in inference.
    own = {"Sampling": generative.Sampling} if TUTORIALS[name].draws else None
    loaded = keras.models.load_model(tmp_path / "model.keras", custom_objects=own)
    assert_same(outputs, outputs_of(loaded, inputs), 1e-5)


@all_but_a_few_slow
@pytest.mark.tensorflow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_functional_form_exports_to_onnx(name, tmp_path):
    tutorial, part, _ = built(name)
    if tutorial.draws:
        pytest.skip("no two runtimes draw the same numbers")
    artifact = export.to_onnx(ptkeras.as_functional(part), tmp_path / "model.onnx")
    assert artifact.verification.passed


@pytest.mark.parametrize(
    "layer",
    [
        pytest.param(layer, marks=pytest.mark.tensorflow) if layer == "raw_relu" else layer
        for layer in OPAQUE
    ],
)
def test_what_cannot_be_seen_through_is_named_once_and_kept(layer):
    model = OPAQUE[layer].build()
    kept = [w.shape for w in model.get_layer(layer).weights]
    with pytest.warns(UserWarning) as caught:
        channel_map = trace(model)
    assert [f"'{layer}'" in str(w.message) for w in caught] == [True]
    assert channel_map.prunable.any()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        inputs = OPAQUE[layer].inputs(model, 2)
        before, after = assert_exact(model, sparing_keep, tolerance=1e-4, inputs=inputs)
    assert after < before
    assert [w.shape for w in model.get_layer(layer).weights] == kept
