"""The rules of layers made for what comes into a network: augmentation, categories, text, sound."""

from __future__ import annotations

import numpy as np
from keras import layers

from ptkeras.channels.registry import Call, register
from ptkeras.channels.rules import within_channels
from ptkeras.keras_compat.layers import BaseImagePreprocessingLayer, DataLayer, IndexLookup
from ptkeras.keras_compat.operations import keras_image, keras_nn, keras_numpy


@register(
    layers.CenterCrop,
    layers.RandomCrop,
    layers.RandomElasticTransform,
    layers.RandomErasing,
    layers.RandomFlip,
    layers.RandomPerspective,
    layers.RandomRotation,
    layers.RandomShear,
    layers.RandomTranslation,
    layers.RandomZoom,
)
def _geometry(call: Call) -> np.ndarray:
    return within_channels(call)


@register(
    BaseImagePreprocessingLayer,
    DataLayer,
    IndexLookup,
    layers.HashedCrossing,
    layers.Hashing,
    layers.Pipeline,
    layers.STFTSpectrogram,
    layers.TextVectorization,
)
def _made_for_inputs(call: Call) -> np.ndarray | list[np.ndarray]:
    """Works on values, colours or waves as they come in, which never go anyway."""
    return call.untouched()


register(keras_nn.MultiHot, keras_nn.OneHot, keras_numpy.Digitize)(_made_for_inputs)


@register(keras_image.ExtractPatches)
def _extract_patches(call: Call) -> np.ndarray | None:
    """Puts the channels of all places of a patch behind one another, again and again."""
    shape, rank = call.shapes[0], len(call.shapes[0])
    if call.op.data_format == "channels_first":
        return None
    call.passes()
    labels = call.along(call.inputs[0], -1, shape[-1])
    return call.spread(np.tile(labels, call.output_shapes[0][-1] // shape[-1]), -1, rank)


@register(layers.Normalization)
def _normalization(call: Call) -> np.ndarray:
    """Its statistics may be part of its config, and stay whole."""
    call.freeze(call.inputs[0])
    return call.inputs[0]
