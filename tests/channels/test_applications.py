import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest

from ptkeras import reconfigure
from ptkeras.channels import trace
from tests.exactness import random_keep, zero
from tests.helpers.applications import NAMES, build, calibrate, inner_channels, randomise

pytestmark = pytest.mark.thorough

MARKS = {
    "VGG16": pytest.mark.compiles_much,
    "ResNet50V2": pytest.mark.compiles_much,
    "MobileNetV3Small": pytest.mark.compiles_much,
}
NETWORKS = [pytest.param(name, marks=MARKS.get(name, pytest.mark.slow)) for name in NAMES]


def difference(before, after):
    return np.abs(before - after).max() / np.abs(before).max()


def half(channel_map):
    """A mask without half of what is prunable that takes no tensor's last channel."""
    keep = random_keep(channel_map, share=0.5)
    for channels in channel_map.tensors.values():
        if channels.max() >= 0 and not keep[channels].any():
            keep[channels.max()] = True
    return keep


def test_there_are_forty():
    assert len(NAMES) == 40


@pytest.fixture
def precision(name):
    """Rounding errors of single precision grow beyond 1e-4 in residual networks this deep."""
    before = keras.config.floatx()
    keras.config.set_floatx("float64" if name.startswith("ResNet1") else before)
    yield keras.config.floatx()
    keras.config.set_floatx(before)


@pytest.mark.parametrize("name", NETWORKS)
def test_half_of_the_channels_go_and_the_outputs_stay(name, precision, tmp_path):
    model = build(name)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="No rule says")
        channel_map = trace(model)
    inner = inner_channels(channel_map)
    share = (~channel_map.frozen & inner).sum() / inner.sum()
    assert share >= 0.8

    randomise(model)
    images = np.random.default_rng(0).normal(size=(4, *model.input_shape[1:])).astype(precision)
    keep = half(channel_map)
    zero(channel_map, keep)
    calibrate(model, images)
    zero(channel_map, keep)
    before = keras.ops.convert_to_numpy(model(images, training=False))
    params = model.count_params()
    reconfigure(model, keep, channel_map=channel_map)
    after = keras.ops.convert_to_numpy(model(images, training=False))
    assert np.abs(before).max() > 1e-3 and np.ptp(before) > 1e-3
    assert difference(before, after) < 1e-4
    assert model.count_params() < 0.7 * params

    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", images)
    program = (
        "import sys, keras, numpy as np\n"
        "sys.modules['ptkeras'] = None\n"
        "model = keras.models.load_model('model.keras')\n"
        "outputs = model(np.load('images.npy'), training=False)\n"
        "np.save('outputs.npy', keras.ops.convert_to_numpy(outputs))\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path)
    # Another process may add up in another order, with another number of threads.
    assert difference(after, np.load(tmp_path / "outputs.npy")) < 1e-4

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, run_eagerly=True)
    assert np.isfinite(model.train_on_batch(images, np.zeros(4, int)))


def test_more_of_convnext_goes_if_it_need_not_be_exact():
    model = build("ConvNeXtTiny")
    exact, rest = trace(model), trace(model, exact=False)
    assert exact.frozen.sum() > rest.frozen.sum()
    assert not rest.frozen[inner_channels(rest)].any()
    params = model.count_params()
    reconfigure(model, half(rest), exact=False)
    assert model.count_params() < 0.4 * params
