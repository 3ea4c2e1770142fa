"""The papers' networks: nothing in them is unknown, and removing zeros changes no output."""

import warnings

import pytest

from ptkeras.channels import trace
from ptkeras.models import build
from tests.exactness import assert_exact

SHAPES = {
    "resnet20": (8, 8, 1),
    "resnet50": (32, 32, 3),
    "vgg8": (32, 32, 3),
    "vgg16": (32, 32, 3),
    "mobilenet": (32, 32, 3),
}


@pytest.mark.compiles_much
@pytest.mark.parametrize("name", SHAPES)
def test_the_papers_networks(name):
    model = build(name, SHAPES[name], 10)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        channel_map = trace(model)
    # Frozen are the network's inputs and outputs alone.
    assert channel_map.frozen.sum() == SHAPES[name][-1] + 10
    before, after = assert_exact(model)
    assert after < 0.5 * before


def test_the_imagenet_form_has_its_own_channels():
    channel_map = trace(build("resnet50", (224, 224, 3), 1000))
    assert channel_map.frozen.sum() == 1003
    assert (~channel_map.frozen).sum() == 11456
