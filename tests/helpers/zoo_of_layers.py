"""Small graphs of Keras's less common layers, for the zoo."""

import keras
from keras import layers, ops

from tests.helpers.zoo import conv, ending, exhibit, head, image
from tests.helpers.zoo_of_operations import tokens

# Recurrent layers


@exhibit
def cells():
    x = tokens()
    y = layers.RNN(layers.LSTMCell(6), return_sequences=True)(layers.Dense(5)(x))
    z, state = layers.RNN(
        layers.GRUCell(5, reset_after=False), return_state=True, return_sequences=True
    )(y)
    y = layers.RNN(layers.SimpleRNNCell(6, activation="relu"), unroll=True)(z)
    return keras.Model(x, [head(y), head(state)])


@exhibit
def stacked_cells():
    x = tokens()
    below = [layers.LSTMCell(6), layers.GRUCell(5), layers.SimpleRNNCell(4)]
    y, *states = layers.RNN(below, return_sequences=True, return_state=True)(x)
    (a, b), c, d = states
    return keras.Model(x, [head(y), head(a), head(b), head(c), head(d)])


@exhibit
def cells_that_go_on():
    x = tokens()
    _, *state = layers.RNN(layers.LSTMCell(6), return_state=True)(x)
    y = layers.RNN(layers.LSTMCell(6), go_backwards=True)(layers.Dense(3)(x), initial_state=state)
    return ending(x, y)


@exhibit
def gated_units_of_both_kinds():
    x = tokens()
    outputs = [
        layers.GRU(5, reset_after=after, use_bias=bias)(x)
        for after in (True, False)
        for bias in (True, False)
    ]
    return keras.Model(x, [head(y) for y in outputs])


@exhibit
def both_ways_in_every_mode():
    x = tokens()
    outputs = []
    for mode in ("concat", "sum", "mul", "ave"):
        inner = layers.LSTM(4, return_sequences=True)
        outputs.append(layers.Bidirectional(inner, merge_mode=mode)(x))
    y, *states = layers.Bidirectional(layers.GRU(5, return_state=True))(x)
    a, b = layers.Bidirectional(layers.RNN(layers.LSTMCell(3)), merge_mode=None)(x)
    return keras.Model(x, [*map(head, outputs), head(y), *map(head, states), head(a + b)])


@exhibit
def convolutions_over_time():
    x = keras.Input((3, 6, 6, 2))
    y = layers.ConvLSTM2D(5, 3, padding="same", return_sequences=True)(x)
    y = layers.TimeDistributed(layers.BatchNormalization())(y)
    y, h, c = layers.ConvLSTM2D(4, 3, strides=2, return_state=True, use_bias=False)(y)
    return keras.Model(x, [head(y), head(h), head(c)])


@exhibit
def convolutions_over_time_of_other_ranks():
    line, volume = keras.Input((3, 6, 2)), keras.Input((2, 4, 4, 4, 2))
    a = layers.ConvLSTM1D(5, 3)(line)
    b = layers.Bidirectional(layers.ConvLSTM1D(4, 3, return_sequences=True))(line)
    c = layers.ConvLSTM3D(3, 3)(volume)
    return keras.Model([line, volume], [head(a), head(b), head(c)])


# Wrappers


@exhibit
def a_model_at_every_step():
    x = keras.Input((3, 6, 6, 2))
    inner = keras.Sequential([image(6, 4), conv(5), layers.ReLU(), conv(4)])
    frame = image(6, 4)
    whole = keras.Model(frame, layers.Add()([frame, inner(frame)]))
    y = layers.TimeDistributed(whole)(layers.TimeDistributed(conv(4))(x))
    return ending(x, layers.LSTM(5)(layers.TimeDistributed(layers.Flatten())(y)))


@exhibit
def spectral_normalisation_of_every_kind():
    x = image(6, 2)
    y = layers.SpectralNormalization(conv(6))(x)
    y = layers.SpectralNormalization(layers.Conv2DTranspose(4, 3))(y)
    y = layers.SpectralNormalization(layers.EinsumDense("bhwc,cd->bhwd", (8, 8, 5)))(y)
    ids = keras.Input((4,), dtype="int32")
    z = layers.SpectralNormalization(layers.Embedding(5, 6))(ids)
    return keras.Model([x, ids], [head(y), head(layers.Dense(4)(z))])


# Attention


@exhibit
def products_of_every_axis():
    x = tokens(5, 6)
    a, b = layers.Dense(4)(x), layers.Dense(5)(x)
    over_time = layers.Dot(axes=1)([a, b])
    over_channels = layers.Dot(axes=(2, 2), normalize=True)([a, layers.Dense(4)(x)])
    crossed = layers.Dot(axes=(2, 1))([layers.Dense(5)(x), b])
    return keras.Model(x, [head(over_time), head(over_channels), head(crossed)])


@exhibit
def attention_of_tokens():
    x = tokens(5, 6)
    q, v = layers.Dense(4)(x), layers.Dense(4, activation="relu")(x)
    y, scores = layers.Attention(use_scale=True)([q, v], return_attention_scores=True)
    z = layers.AdditiveAttention(use_scale=False)([q, v], use_causal_mask=True)
    w = layers.Attention(score_mode="concat", use_scale=True)([q, v, layers.Dense(4)(x)])
    return keras.Model(x, [head(y), head(scores), head(z), head(w)])


# Masks


@exhibit
def masks_of_inputs():
    x = tokens()
    y = layers.Masking()(x)
    y = layers.LSTM(5, return_sequences=True)(layers.Dense(6)(y))
    y = layers.Concatenate()([y, layers.TimeDistributed(layers.Dense(3))(y)])
    return keras.Model(x, layers.Dense(2)(layers.GlobalAveragePooling1D()(y)))


@exhibit
def masks_of_features():
    x = tokens()
    y = layers.Masking()(layers.Dense(5, activation="relu")(x))
    z = layers.Masking(-1.0)(layers.Dense(5)(x))
    w = layers.Masking()(layers.Dense(5, activation="sigmoid")(x))
    return keras.Model(x, [layers.GRU(4)(t) for t in (y, z, w)])


@exhibit
def masks_through_a_network():
    x = keras.Input((5,), dtype="int32")
    y = layers.Embedding(7, 6, mask_zero=True)(x)
    y = layers.Add()([y, layers.MultiHeadAttention(2, 3)(y, y)])
    y = layers.Bidirectional(layers.GRU(4, return_sequences=True))(y)
    y = layers.Concatenate()([layers.Dense(3, name="dies")(y), y, layers.Dropout(0.2)(y)])
    return keras.Model(x, layers.Dense(2)(layers.LSTM(5)(y)))


# What comes in


@exhibit
def embedded_features():
    x = keras.Input((4,), dtype="int32")
    y = layers.Flatten()(layers.Embedding(6, 5)(x))
    return ending(x, layers.Dense(4)(layers.Dense(7, activation="relu")(y)))


@exhibit
def categories():
    number, code = keras.Input((1,)), keras.Input((3,), dtype="int32")
    bins = layers.Discretization([-0.5, 0.5], output_mode="one_hot")(number)
    codes = layers.CategoryEncoding(4, output_mode="multi_hot")(code)
    scaled = layers.Normalization(mean=[0.3], variance=[2.0])(number)
    y = layers.Dense(6, activation="relu")(layers.Concatenate()([bins, codes, scaled]))
    return keras.Model([number, code], layers.Dense(3)(layers.Dense(5)(y)))


@exhibit
def augmented_images():
    x = image(8)
    y = layers.RandomContrast(0.2)(layers.RandomFlip()(x))
    y = layers.RandomTranslation(0.1, 0.1)(conv(5)(y))
    y = layers.RandomZoom(0.1)(layers.RandomRotation(0.1)(y))
    return ending(x, conv(4)(layers.CenterCrop(4, 4)(layers.GaussianNoise(0.1)(y))))


@exhibit
def adaptive_pooling():
    x = image(6)
    y = conv(5)(x)
    if hasattr(layers, "AdaptiveAveragePooling2D"):
        y = layers.AdaptiveAveragePooling2D(4)(y) + layers.AdaptiveMaxPooling2D((4, 4))(y)
    return ending(x, conv(4)(y))


# Shapes and shares


@exhibit
def reshaped_with_a_size_to_find():
    x = image(4)
    y = layers.Reshape((-1, 6))(conv(6)(x))
    y = layers.Reshape((4, -1, 6))(layers.Dense(6)(y))
    z = layers.Reshape((-1,))(conv(3)(x))
    return keras.Model(x, [head(y), layers.Dense(2)(z)])


@exhibit
def filters_for_every_channel():
    x = image(6, 2)
    y = layers.DepthwiseConv2D(3, depth_multiplier=3)(conv(4)(x))
    y = layers.BatchNormalization()(conv(12, groups=12)(y))
    y = layers.SeparableConv2D(6, 3, depth_multiplier=2)(y)
    return ending(x, conv(12, groups=6)(y))


@exhibit
def groups_and_gates():
    x = image()
    y = layers.GroupNormalization(4)(conv(8)(x))
    gate = layers.Dense(8, activation="sigmoid")(layers.GlobalAveragePooling2D()(y))
    y = y * ops.reshape(gate, (-1, 1, 1, 8))
    y = layers.Concatenate(axis=1)([y, layers.GroupNormalization(2)(conv(8)(x))])
    return ending(x, layers.Conv2DTranspose(5, 3, strides=2)(y))


@exhibit
def wrappers_in_wrappers():
    x = keras.Input((2, 3, 4))
    twice = layers.TimeDistributed(layers.TimeDistributed(layers.Dense(6)))(x)
    y = layers.TimeDistributed(layers.Bidirectional(layers.LSTM(5)))(twice)
    return keras.Model(x, [head(twice), head(layers.TimeDistributed(layers.Dense(3))(y))])


@exhibit
def embeddings_read_backwards():
    x = keras.Input((5,), dtype="int32")
    outputs = []
    for tied in (True, False) if hasattr(layers, "ReversibleEmbedding") else ():
        embedding = layers.ReversibleEmbedding(6, 6, tie_weights=tied)
        y = layers.Dense(6, activation="relu")(layers.Dense(8)(embedding(x)))
        outputs.append(layers.Dense(4)(embedding(y, reverse=True)))
    return keras.Model(x, outputs or layers.Embedding(6, 4)(x))
