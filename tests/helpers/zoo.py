"""Small graphs, each written to break a rule: what they have in common is only that they run."""

import keras
import numpy as np
from keras import layers, ops

ZOO = {}


def exhibit(build):
    """Adds a function that builds a model to the zoo, under its name."""
    ZOO[build.__name__] = build
    return build


def image(size=6, channels=3):
    return keras.Input((size, size, channels))


def conv(filters, size=3, **kwargs):
    return layers.Conv2D(filters, size, padding="same", **kwargs)


def head(x, classes=3):
    if len(x.shape) == 4:
        x = layers.GlobalAveragePooling2D()(x)
    elif len(x.shape) > 2:
        x = layers.Flatten()(x)
    return layers.Dense(classes)(x)


def ending(inputs, x):
    return keras.Model(inputs, head(x))


# Arithmetic


@exhibit
def add_of_three():
    x = image()
    a, b, c = (conv(6)(x) for _ in range(3))
    return ending(x, layers.Add()([a, b, c]))


@exhibit
def add_with_itself():
    x = image()
    y = conv(6)(x)
    return ending(x, layers.Add()([y, y]))


@exhibit
def python_operators():
    x = image()
    a, b = conv(6)(x), conv(6, activation="sigmoid")(x)
    y = (a + b) * a - b / (ops.square(a) + 1.0) + 2.0 * (1.0 - b)
    return ending(x, -(ops.abs(y) ** 2))


@exhibit
def constant_arrays():
    x = image()
    y = conv(6)(x) * np.arange(1.0, 7.0, dtype="float32")
    y = ops.add(np.ones((6, 6), "float32"), y)
    y = ops.maximum(y, ops.convert_to_tensor(np.linspace(0, 1, 6, dtype="float32")))
    y = y - np.random.default_rng(0).normal(size=(6, 6, 1)).astype("float32")
    return ending(x, ops.where(y > 0.5, y, np.arange(6.0, dtype="float32")))


@exhibit
def one_channel_mask():
    x = image()
    mask = conv(1, activation="sigmoid")(x)
    return ending(x, layers.Multiply()([conv(6)(x), mask]))


@exhibit
def one_channel_mask_of_many():
    x = image()
    y = conv(6)(x)
    mask = ops.mean(y, axis=-1, keepdims=True)
    return ending(x, y * ops.sigmoid(mask))


@exhibit
def squeeze_and_excitation():
    x = image()
    y = conv(8, activation="swish")(x)
    gate = layers.GlobalAveragePooling2D()(y)
    gate = layers.Reshape((1, 1, 8))(gate)
    gate = conv(3, 1, activation="relu")(gate)
    gate = conv(8, 1, activation="sigmoid")(gate)
    return ending(x, conv(4)(layers.Multiply()([y, gate])))


@exhibit
def outer_product():
    x = keras.Input((4,))
    a, b = layers.Dense(5)(x), layers.Dense(5)(x)
    y = ops.expand_dims(a, 1) * ops.expand_dims(b, 2)
    return ending(x, y)


@exhibit
def broadcast_over_time():
    x = keras.Input((5, 4))
    y = layers.Dense(6)(x)
    z = layers.Dense(6)(ops.mean(x, axis=1))
    return ending(x, layers.Add()([y, layers.Reshape((1, 6))(z)]))


# Splitting and joining


@exhibit
def shuffle_unit():
    x = image()
    y = conv(8, groups=1, activation="relu")(x)
    y = conv(8, groups=2)(y)
    y = layers.Reshape((6, 6, 2, 4))(y)
    y = layers.Permute((1, 2, 4, 3))(y)
    y = layers.Reshape((6, 6, 8))(y)
    y = layers.DepthwiseConv2D(3, padding="same")(y)
    return ending(x, conv(8, groups=2)(y))


@exhibit
def shuffle_unit_of_operations():
    x = image()
    y = conv(8)(x)
    a, b = ops.split(y, 2, axis=-1)
    b = conv(4)(b)
    y = ops.concatenate([a, b], axis=-1)
    y = ops.reshape(y, (-1, 6, 6, 2, 4))
    y = ops.transpose(y, (0, 1, 2, 4, 3))
    y = ops.reshape(y, (-1, 6, 6, 8))
    return ending(x, conv(5)(y))


@exhibit
def split_and_join_in_another_order():
    x = image()
    a, b, c = ops.split(conv(9)(x), [2, 5], axis=-1)
    return ending(x, conv(4)(layers.Concatenate()([c, a, b])))


@exhibit
def slices():
    x = image()
    y = conv(9)(x)
    turned = ops.flip(y, -1) if keras.backend.backend() == "torch" else y[..., ::-1]
    y = ops.concatenate([y[..., :4], y[:, :, :, ::3], y[..., -1:], turned], axis=-1)
    return ending(x, conv(4)(y)[:, 1:-1, 2])


@exhibit
def slices_of_space_and_channels_at_once():
    x = image()
    y = conv(9)(x)
    return ending(x, conv(4)(y[:, 1:, :4, 2:7]) + conv(4)(y[:, :-1, 2:, ::2]))


@exhibit
def one_channel_alone():
    x = image()
    y = conv(6)(x)
    alone = y[..., 2]
    return keras.Model(x, [head(y), head(alone), head(y[:, 0, 0])])


@exhibit
def slice_then_add_to_the_rest():
    x = image()
    y = conv(8)(x)
    return ending(x, conv(3)(y[..., :4] + y[..., 4:]))


@exhibit
def concatenations_of_concatenations():
    x = image()
    features = [conv(4)(x)]
    for _ in range(3):
        y = features[0] if len(features) == 1 else layers.Concatenate()(features)
        y = layers.BatchNormalization()(y)
        features.append(conv(3)(layers.ReLU()(y)))
    return ending(x, layers.Concatenate()(features))


@exhibit
def concatenation_of_itself():
    x = image()
    y = conv(4)(x)
    return ending(x, conv(5)(layers.Concatenate()([y, y, conv(2)(x)])))


@exhibit
def concatenation_of_space():
    x = image()
    y = layers.Concatenate(axis=1)([conv(4)(x), conv(4)(x)])
    return ending(x, conv(5)(ops.concatenate([y, y], axis=2)))


@exhibit
def stacking():
    x = image()
    a, b = conv(4)(x), conv(4)(x)
    y = ops.stack([a, b], axis=-1)
    z = ops.stack([a, b, a], axis=1)
    return ending(x, ops.sum(ops.max(y, axis=-1), axis=(1, 2)) + ops.mean(z, axis=(1, 2, 3)))


@exhibit
def moves():
    x = image()
    y = conv(6)(x)
    y = ops.moveaxis(y, -1, 1)
    y = ops.swapaxes(y, 1, 2)
    y = ops.expand_dims(y, 1)
    y = ops.squeeze(y, 1)
    y = ops.flip(ops.transpose(y, (0, 1, 3, 2)), axis=-1)
    y = ops.roll(y, 2, axis=-1)
    y = ops.roll(y, 1, axis=1)
    y = ops.repeat(y, 2, axis=-1)
    y = ops.repeat(y, 2, axis=2)
    y = ops.tile(y, (1, 1, 1, 2))
    y = ops.pad(y, [[0, 0], [1, 0], [0, 0], [1, 2]])
    y = ops.take(y, [3, 3, 0, 5, -1, 20], axis=-1)
    return ending(x, conv(4)(y))


def repeats_of_their_own():
    x = keras.Input((4,))
    y = ops.repeat(layers.Dense(3)(x), [1, 3, 2], axis=-1)
    return ending(x, layers.Dense(4)(y))


if keras.backend.backend() == "tensorflow":  # where alone Keras can run it
    exhibit(repeats_of_their_own)


@exhibit
def one_channel_shown_twice():
    x = keras.Input((4, 4, 2))
    y = layers.Conv2D(3, 1, name="source")(x)
    y = ops.take(y, [2, 2], axis=-1)
    return ending(x, layers.Conv2D(4, 3)(y))


@exhibit
def one_channel_shown_twice_along_another_axis():
    x = keras.Input((4, 6))
    y = layers.Permute((2, 1))(layers.Dense(5)(x))
    y = layers.Permute((2, 1))(ops.take(y, [3, 3, 3], axis=1))
    return ending(x, layers.Dense(4)(y))


@exhibit
def squeezed_to_one_channel():
    x = image()
    y = layers.GlobalAveragePooling2D(keepdims=True)(conv(2)(x))
    return ending(x, layers.Dense(4)(ops.squeeze(y)))


@exhibit
def broadcasts():
    x = keras.Input(batch_shape=(3, 4))
    y = ops.expand_dims(layers.Dense(5)(x), 1)
    return ending(x, layers.Dense(4)(ops.broadcast_to(y, (3, 2, 5))))


@exhibit
def pixel_shuffle():
    x = image()
    y = ops.nn.depth_to_space(conv(12)(x), 2) if hasattr(ops.nn, "depth_to_space") else conv(3)(x)
    return ending(x, conv(4)(y))


@exhibit
def identity_padding_shortcut():
    x = image()
    y = conv(4)(x)
    short = ops.pad(layers.AveragePooling2D(2)(y), [[0, 0], [0, 0], [0, 0], [2, 2]])
    return ending(x, short + conv(8, strides=2)(y))


@exhibit
def channels_taken_from_padding_that_was_added_to():
    x = image()
    y = conv(3)(x)
    both = ops.pad(y, [[0, 0], [0, 0], [0, 0], [1, 2]]) + conv(6)(x)
    alone = ops.take(ops.pad(y, [[0, 0], [0, 0], [0, 0], [1, 0]]), [0, 0, 3, 1], axis=-1)
    return ending(x, conv(4)(ops.take(both, [5, 0, 2, 0], axis=-1)) + conv(4)(alone))


# Shapes


@exhibit
def flattened_and_back():
    x = image(4)
    y = layers.Flatten()(conv(5)(x))
    y = layers.Dense(4 * 4 * 3)(y)
    y = layers.Reshape((4, 4, 3))(y)
    return ending(x, conv(4)(y))


@exhibit
def reshaped_with_a_free_axis():
    x = image(4)
    y = ops.reshape(conv(6)(x), (-1, 16, 6))
    y = layers.Reshape((-1, 2, 6))(y)
    return ending(x, layers.Conv2D(4, 1)(y))


@exhibit
def channels_into_the_batch():
    x = keras.Input((5, 4))
    y = ops.reshape(layers.Dense(6)(x), (-1, 6))
    y = layers.Dense(7, activation="relu")(y)
    return ending(x, ops.reshape(y, (-1, 5, 7)))


@exhibit
def flattened_channels_beside_a_vector():
    x, v = image(4), keras.Input((5,))
    y = layers.Concatenate()([layers.Flatten()(conv(3)(x)), layers.Dense(4)(v)])
    return keras.Model([x, v], layers.Dense(2)(y))


@exhibit
def transposed_features():
    x = keras.Input((5, 6))
    y = layers.Dense(8)(x)
    y = layers.Permute((2, 1))(y)
    return ending(x, layers.Conv1D(4, 3)(y))


# Sums over channels


@exhibit
def sums_over_channels():
    x = image()
    y = conv(6, activation="relu")(x)
    z = conv(6, activation="sigmoid")(x)
    a, b = ops.sum(y, axis=-1), ops.sum(z, axis=-1)
    c = ops.max(y, axis=-1) + ops.mean(z, axis=-1)
    return keras.Model(x, [head(a), head(b), head(c), head(ops.sum(y + 1.0, axis=(1, 3)))])


@exhibit
def softmax_over_channels():
    x = image()
    y = conv(6)(x)
    return ending(x, conv(3)(ops.softmax(y) + layers.Softmax()(conv(6)(x))))


@exhibit
def softmax_over_space():
    x = keras.Input((5, 4))
    y = layers.Dense(6)(x)
    return ending(x, layers.Dense(3)(layers.Softmax(axis=1)(y) * ops.softmax(y, axis=1)))


@exhibit
def dot_products():
    x = keras.Input((5, 4))
    q, k, v = (layers.Dense(6)(x) for _ in range(3))
    scores = ops.softmax(ops.matmul(q, ops.transpose(k, (0, 2, 1))))
    y = ops.matmul(scores, v)
    z = ops.einsum("btc,bsc->bts", q, ops.sigmoid(k))
    return keras.Model(x, [head(y), head(z), head(layers.Dot(axes=-1)([y, v]))])


@exhibit
def dot_product_of_what_is_never_zero():
    x = keras.Input((5, 4))
    q, k = (layers.Dense(6, activation="sigmoid")(x) for _ in range(2))
    return ending(x, ops.einsum("btc,bsc->bts", q, k))


@exhibit
def normalised_vectors():
    x = keras.Input((4,))
    y = layers.UnitNormalization()(layers.Dense(6)(x))
    z = ops.normalize(layers.Dense(6, activation="sigmoid")(x))
    return ending(x, layers.Concatenate()([layers.Dense(3)(y), layers.Dense(3)(z)]))


@exhibit
def siamese_towers():
    tower = keras.Sequential([image(), conv(6), layers.ReLU(), layers.Flatten(), layers.Dense(5)])
    a, b = image(), image()
    return keras.Model([a, b], layers.Dot(axes=1, normalize=True)([tower(a), tower(b)]))


# Models in models


@exhibit
def siamese_models():
    x = image()
    y = conv(4, activation="relu")(x)
    tower = keras.Model(x, [y, layers.GlobalAveragePooling2D()(conv(5)(y))])
    a, b = image(), image()
    (maps_a, a_), (maps_b, b_) = tower(a), tower(b)
    return keras.Model([a, b], [head(layers.Subtract()([a_, b_])), head(maps_a * maps_b)])


@exhibit
def residual_around_a_nested_model():
    inner_input = image(channels=6)
    inner = keras.Model(inner_input, conv(6)(conv(4, activation="relu")(inner_input)))
    x = image()
    y = conv(6)(x)
    return ending(x, layers.Add()([y, inner(y)]))


@exhibit
def residual_around_a_sequential_model():
    inner = keras.Sequential([conv(4, activation="relu"), conv(6), layers.BatchNormalization()])
    x = image()
    y = conv(6)(x)
    return ending(x, y + inner(y))


@exhibit
def models_three_deep():
    a = image(channels=5)
    first = keras.Model(a, layers.ReLU()(conv(5)(a)))
    b = image(channels=5)
    second = keras.Sequential([b, first, conv(5)])
    c = image()
    third = keras.Model(c, second(conv(5)(c)))
    x = image()
    return ending(x, conv(4)(third(x)))


@exhibit
def a_layer_used_twice():
    x = image()
    shared = conv(6)
    y = conv(6)(x)
    return ending(x, layers.Concatenate()([shared(y), shared(shared(y))]))


@exhibit
def a_dense_layer_for_inputs_of_other_ranks():
    x = image()
    y = conv(6)(x)
    shared = layers.Dense(4)
    pooled = layers.GlobalAveragePooling2D()(y)
    return keras.Model(x, [head(shared(pooled)), head(shared(y))])


# Inputs and outputs


@exhibit
def outputs_that_are_inner_tensors():
    x = image()
    a = conv(5)(x)
    b = conv(5)(layers.ReLU()(a))
    return keras.Model(x, {"inner": a, "out": head(b), "sum": layers.Add()([a, b])})


@exhibit
def inputs_of_a_dictionary():
    inputs = {
        "image": keras.Input((6, 6, 3), name="image"),
        "numbers": keras.Input((4,), name="numbers"),
    }
    a = layers.GlobalMaxPooling2D()(conv(6)(inputs["image"]))
    b = layers.Dense(6)(inputs["numbers"])
    return keras.Model(inputs, {"a": head(layers.Multiply()([a, b])), "b": head(b)})


@exhibit
def an_input_that_is_an_output():
    x = image()
    return keras.Model(x, [x, head(conv(4)(x))])


@exhibit
def an_input_added_to_features():
    x = image()
    return ending(x, conv(5)(layers.Add()([x, conv(3)(x)])))


@exhibit
def several_inputs_of_several_widths():
    a, b = image(6, 2), image(6, 5)
    y = layers.Maximum()([conv(4)(a), conv(4)(b)])
    return keras.Model([a, b], [head(y), head(layers.Average()([y, conv(4)(b)]))])


# Architectures


@exhibit
def u_net():
    x = image(8)
    a = conv(4, activation="relu")(x)
    b = conv(6, activation="relu")(layers.MaxPooling2D()(a))
    c = conv(8, activation="relu")(layers.MaxPooling2D()(b))
    y = layers.Concatenate()([layers.UpSampling2D()(c), b])
    y = conv(6, activation="relu")(y)
    y = layers.Concatenate()([layers.Conv2DTranspose(4, 2, strides=2)(y), a])
    return keras.Model(x, conv(2, 1, activation="sigmoid")(conv(5)(y)))


@exhibit
def inception():
    x = image()
    y = conv(5)(x)
    a = conv(3, 1)(y)
    b = conv(4)(conv(2, 1, activation="relu")(y))
    c = conv(3, 5)(conv(2, 1)(y))
    d = conv(2, 1)(layers.MaxPooling2D(3, 1, padding="same")(y))
    return ending(x, conv(4)(layers.Concatenate()([a, b, c, d])))


@exhibit
def inverted_residual():
    x = image()
    y = conv(4)(x)
    z = layers.ReLU(6.0)(layers.BatchNormalization()(conv(12, 1)(y)))
    z = layers.ZeroPadding2D(1)(z)
    z = layers.BatchNormalization()(layers.DepthwiseConv2D(3)(z))
    return ending(x, layers.Add()([y, layers.BatchNormalization()(conv(4, 1)(z))]))


@exhibit
def separable_and_grouped():
    x = image()
    y = layers.SeparableConv2D(8, 3, depth_multiplier=2)(conv(6)(x))
    y = conv(8, groups=4)(y)
    y = conv(16, groups=8)(y)
    return ending(x, layers.PReLU(shared_axes=[1, 2])(y))


@exhibit
def attention_over_pooled_tokens():
    x = image()
    tokens = layers.Reshape((9, 8))(layers.AveragePooling2D(2)(conv(8)(x)))
    y = layers.MultiHeadAttention(2, 4)(tokens, tokens)
    return ending(x, layers.Add()([tokens, y]))


@exhibit
def attention_of_every_kind():
    x = keras.Input((5, 4))
    q, k, v = layers.Dense(6)(x), layers.Dense(7)(x), layers.Dense(6)(x)
    y = layers.MultiHeadAttention(3, 4, value_dim=5, output_shape=8, dropout=0.1)(q, v, k)
    z, scores = layers.MultiHeadAttention(2, 3, use_bias=False)(
        q, v, use_causal_mask=True, return_attention_scores=True
    )
    w = layers.GroupQueryAttention(3, 4, 2)(q, v, k)
    y = layers.Concatenate()([y, z, w])
    return keras.Model(x, [head(y), head(layers.Attention()([q, k, v])), head(scores)])


@exhibit
def additive_attention():
    x = keras.Input((5, 4))
    q, k, v = layers.Dense(6)(x), layers.Dense(6)(x), layers.Dense(7)(x)
    y = layers.AdditiveAttention()([q, v, k])
    return ending(x, y + layers.Attention(score_mode="concat")([q, v, k]))


@exhibit
def attention_of_operations():
    x = keras.Input((5, 8))
    heads = []
    for _ in range(3):
        y = ops.reshape(layers.Dense(8)(x), (-1, 5, 2, 4))
        heads.append(ops.transpose(y, (0, 2, 1, 3)))
    q, k, v = heads
    scores = ops.softmax(ops.einsum("bhtd,bhsd->bhts", q, k) / 2.0)
    y = ops.transpose(ops.matmul(scores, v), (0, 2, 1, 3))
    return ending(x, layers.Dense(8)(ops.reshape(y, (-1, 5, 8))))


@exhibit
def transformer_block():
    x = keras.Input((5,), dtype="int32")
    y = layers.Embedding(7, 8)(x)
    y = y + layers.MultiHeadAttention(2, 4)(*[layers.LayerNormalization()(y)] * 2)
    z = layers.Dense(12, activation="gelu")(layers.RMSNormalization()(y))
    return ending(x, y + layers.Dense(8)(layers.Dropout(0.1)(z)))


@exhibit
def embeddings_with_masks():
    x = keras.Input((5,), dtype="int32")
    y = layers.Embedding(7, 8, mask_zero=True)(x)
    y = layers.LSTM(6, return_sequences=True)(y)
    return keras.Model(x, layers.Dense(3)(layers.GRU(5)(y)))


@exhibit
def mixer():
    x = keras.Input((5, 6))
    y = layers.Dense(8)(x)
    y = layers.EinsumDense("btc,ts->bsc", (4, 8), bias_axes="c")(y)
    y = layers.EinsumDense("...c,cd->...d", 7, bias_axes="d", activation="relu")(y)
    y = layers.EinsumDense("btc,chd->bthd", (4, 2, 3), bias_axes="hd")(y)
    y = layers.EinsumDense("bthd,hde->bte", (4, 6), bias_axes="e")(y)
    return ending(x, layers.EinsumDense("btc,c->btc", (4, 6))(y))


@exhibit
def normalisation_of_every_kind():
    x = image()
    y = layers.GroupNormalization(4)(conv(8)(x))
    y = layers.GroupNormalization(-1)(conv(6)(y))
    if keras.backend.backend() != "torch":  # where Keras cannot run it
        y = layers.LayerNormalization(axis=[1, 2])(conv(5)(y))
    y = layers.GroupNormalization(1)(conv(4)(y))
    y = layers.BatchNormalization(scale=False)(conv(5, activation="sigmoid")(y))
    y = layers.BatchNormalization(axis=1)(layers.Permute((3, 1, 2))(y))
    return ending(x, layers.Permute((2, 3, 1))(layers.Rescaling(2.0, 0.5)(y)))


@exhibit
def recurrent_layers():
    x = keras.Input((5, 4))
    y = layers.LSTM(6, return_sequences=True)(layers.Dense(5)(x))
    y = layers.GRU(5, return_sequences=True)(y)
    y = layers.GRU(4, reset_after=False, return_sequences=True, use_bias=False)(y)
    return ending(x, layers.SimpleRNN(6)(y))


@exhibit
def encoder_and_decoder():
    x = keras.Input((5, 4))
    y, *state = layers.LSTM(6, return_state=True, return_sequences=True)(x)
    z = layers.LSTM(6, return_sequences=True)(layers.Dense(3)(x), initial_state=state)
    return ending(x, layers.Attention()([z, y]))


@exhibit
def both_directions():
    x = keras.Input((5, 4))
    y = layers.Bidirectional(layers.LSTM(6, return_sequences=True))(x)
    z = layers.Bidirectional(layers.GRU(4, return_sequences=True), merge_mode="sum")(y)
    a, b = layers.Bidirectional(layers.SimpleRNN(4), merge_mode=None)(z)
    return ending(x, layers.Concatenate()([a, b]))


@exhibit
def frames():
    x = keras.Input((4, 6, 6, 2))
    frame = image(6, 5)
    inner = keras.Model(frame, layers.GlobalAveragePooling2D()(conv(6)(layers.ReLU()(frame))))
    y = layers.TimeDistributed(conv(5))(x)
    y = layers.TimeDistributed(layers.BatchNormalization())(y)
    y = layers.TimeDistributed(inner)(y)
    return ending(x, layers.TimeDistributed(layers.Dense(4))(y))


@exhibit
def spectral_normalisation():
    x = image()
    y = layers.SpectralNormalization(conv(6))(x)
    return ending(x, layers.SpectralNormalization(layers.Dense(5))(y))


@exhibit
def noise_and_activations():
    x = image()
    y = layers.GaussianNoise(0.1)(conv(6)(x))
    y = layers.LeakyReLU()(layers.SpatialDropout2D(0.1)(y))
    y = layers.ELU()(layers.AlphaDropout(0.1)(y))
    y = layers.ActivityRegularization(0.1)(layers.PReLU()(y))
    return ending(x, conv(4, activation="softmax")(layers.Activation("hard_silu")(y)))


@exhibit
def space():
    x = image(9)
    y = layers.Cropping2D(1)(layers.ZeroPadding2D(((2, 1), (1, 2)))(conv(6)(x)))
    y = layers.UpSampling2D(2)(layers.MaxPooling2D(2)(y))
    y = layers.Resizing(5, 5)(y)
    return ending(x, conv(4)(layers.AveragePooling2D(2)(y)))


@exhibit
def sequences():
    x = keras.Input((None, 4))
    y = layers.Conv1D(6, 3, padding="causal")(x)
    y = layers.SeparableConv1D(5, 3)(layers.ZeroPadding1D(2)(y))
    y = layers.Conv1DTranspose(4, 3)(layers.DepthwiseConv1D(3)(y))
    return keras.Model(x, layers.Dense(3)(layers.GlobalMaxPooling1D()(y)))


@exhibit
def repeated_vector():
    x = keras.Input((4,))
    y = layers.RepeatVector(3)(layers.Dense(5)(x))
    return ending(x, layers.LSTM(4)(y))


@exhibit
def volumes():
    x = keras.Input((4, 4, 4, 2))
    y = layers.Conv3D(5, 3, padding="same")(x)
    y = layers.MaxPooling3D()(layers.UpSampling3D()(y))
    return ending(x, layers.Flatten()(layers.Conv3DTranspose(3, 2)(y)))


@keras.saving.register_keras_serializable("zoo")
def double(x):
    return 2.0 * x


@exhibit
def lambda_layer():
    x = image()
    y = layers.Lambda(double)(conv(4)(x))
    return ending(x, conv(5)(y))


@exhibit
def constant_branch():
    x = image()
    y = conv(6)(x)
    short = conv(6)(layers.BatchNormalization()(conv(2, activation="relu", name="dies")(y)))
    return ending(x, conv(4)(layers.Add()([y, short])))
