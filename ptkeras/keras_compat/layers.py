"""Base classes of Keras's layers, which rules are registered for, and layers of its applications.

Each exists since Keras 3.0. A rule for a base holds for all layers that are made from it; rules for
each public layer would make this module needless.
"""

# Layers of `keras.applications`, which Keras does not export.
from keras.src.applications.convnext import LayerScale, StochasticDepth
from keras.src.applications.inception_resnet_v2 import CustomScaleLayer
from keras.src.layers.convolutional.base_conv import BaseConv
from keras.src.layers.convolutional.base_conv_transpose import BaseConvTranspose
from keras.src.layers.convolutional.base_depthwise_conv import BaseDepthwiseConv
from keras.src.layers.convolutional.base_separable_conv import BaseSeparableConv
from keras.src.layers.merging.base_merge import Merge
from keras.src.layers.pooling.base_global_pooling import BaseGlobalPooling
from keras.src.layers.pooling.base_pooling import BasePooling
from keras.src.layers.preprocessing.data_layer import DataLayer
from keras.src.layers.preprocessing.image_preprocessing.base_image_preprocessing_layer import (
    BaseImagePreprocessingLayer,
)
from keras.src.layers.preprocessing.index_lookup import IndexLookup
from keras.src.layers.rnn.conv_lstm import ConvLSTM, ConvLSTMCell

# What Keras sets on classes beside methods, a user's among them: the kind of object, and the names
# that it is exported under. All of Keras 3.12 to 3.15; names that begin with two underscores would
# make this needless.
CLASS_MARKS = ("_obj_type", "_keras_api_export_path", "_keras_api_export_symbol_id")

__all__ = [
    "CLASS_MARKS",
    "BaseConv",
    "BaseConvTranspose",
    "BaseDepthwiseConv",
    "BaseGlobalPooling",
    "BaseImagePreprocessingLayer",
    "BasePooling",
    "BaseSeparableConv",
    "ConvLSTM",
    "ConvLSTMCell",
    "CustomScaleLayer",
    "DataLayer",
    "IndexLookup",
    "LayerScale",
    "Merge",
    "StochasticDepth",
]
