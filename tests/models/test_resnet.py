"""Residual networks against counts done by hand."""

import keras
import numpy as np
import pytest

from ptkeras import models


def _macs(model: keras.Model) -> int:
    """Multiply-accumulates of the convolutions and the dense layers for one image."""
    total = 0
    for layer in model.layers:
        if isinstance(layer, (keras.layers.Conv2D, keras.layers.Dense)):
            total += int(np.prod(layer.kernel.shape) * np.prod(layer.output.shape[1:-1]))
    return total


def _trainable(model: keras.Model) -> int:
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)


def _basic_stage(inputs: int, outputs: int, blocks: int) -> int:
    """Trainable parameters of a stage of basic blocks: 3x3 kernels, and 2 per channel and norm."""
    shortcut = inputs * outputs + 2 * outputs if inputs != outputs else 0
    first = 9 * inputs * outputs + 9 * outputs**2 + 4 * outputs + shortcut
    return first + (blocks - 1) * (18 * outputs**2 + 4 * outputs)


def _bottleneck_stage(inputs: int, filters: int, blocks: int) -> int:
    """Trainable parameters of a stage of bottleneck blocks; the first one has a projection."""

    def block(inputs: int) -> int:
        kernels = inputs * filters + 9 * filters**2 + 4 * filters**2
        return kernels + 2 * filters + 2 * filters + 8 * filters

    shortcut = inputs * 4 * filters + 8 * filters
    return block(inputs) + shortcut + (blocks - 1) * block(4 * filters)


@pytest.mark.parametrize(
    ("name", "blocks", "published_millions"),
    [("resnet20", 3, 0.27), ("resnet32", 5, 0.47), ("resnet56", 9, 0.86), ("resnet110", 18, 1.73)],
)
def test_cifar_parameters(name, blocks, published_millions):
    model = models.build(name, (32, 32, 3), 10)
    stem = 27 * 16 + 2 * 16
    stages = sum(_basic_stage(*io, blocks) for io in [(16, 16), (16, 32), (32, 64)])
    assert _trainable(model) == stem + stages + 64 * 10 + 10
    assert _trainable(model) / 1e6 == pytest.approx(published_millions, abs=0.005)
    assert model.output.shape == (None, 10)


def test_resnet32_takes_69_million_macs():
    # 16x16 kernels at 32x32, 32x32 at 16x16 and 64x64 at 8x8 all cost 9 * 2^18 MACs.
    stem, full, half, head = 432 * 1024, 9 * 2**18, 9 * 2**17, 640
    shortcuts = 16 * 32 * 256 + 32 * 64 * 64
    by_hand = stem + 28 * full + 2 * half + shortcuts + head
    assert _macs(models.build("resnet32", (32, 32, 3), 10)) == by_hand
    assert by_hand / 1e6 == pytest.approx(69, abs=0.5)


def test_resnet50_of_small_images_has_24_bottleneck_blocks():
    model = models.build("resnet50", (32, 32, 3), 100)
    stages = [(16, 16), (64, 32), (128, 64)]
    by_hand = 27 * 16 + 32 + sum(_bottleneck_stage(*io, 8) for io in stages) + 256 * 100 + 100
    assert _trainable(model) == by_hand
    assert model.get_layer("stage2_block0_conv1").strides == (1, 1)
    assert model.get_layer("stage2_block0_conv2").strides == (2, 2)
    assert model.get_layer("stage3_block7_relu").output.shape == (None, 8, 8, 256)


def test_resnet50_of_large_images_is_the_imagenet_network():
    model = models.build("resnet50", (224, 224, 3), 1000)
    assert _trainable(model) == 25_557_032
    assert model.count_params() == 25_557_032 + 53_120  # two statistics for each of 26,560 channels
    assert _macs(model) == 3_857_973_248
    assert model.output.shape == (None, 1000)


def test_layer_names_say_where_a_layer_is():
    names = [layer.name for layer in models.build("resnet20", (8, 8, 1), 10).layers]
    block = ["conv1", "bn1", "relu1", "conv2", "shortcut_conv", "bn2", "shortcut_bn", "add", "relu"]
    assert {f"stage2_block0_{part}" for part in block} <= set(names)
    assert "stage1_block0_shortcut_conv" not in names
    assert names[-1] == "predictions"
