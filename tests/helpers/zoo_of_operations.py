"""Small graphs of plain `keras.ops`, for the zoo."""

import keras
import numpy as np
from keras import layers, ops

from tests.helpers.zoo import conv, ending, exhibit, head, image


def tokens(time=5, channels=4):
    return keras.Input((time, channels))


@exhibit
def tensordots():
    x = tokens()
    q, k = layers.Dense(6)(x), layers.Dense(6, activation="relu")(x)
    pooled = layers.Dense(7)(ops.mean(x, axis=1))
    weights = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
    over_time = ops.tensordot(q, weights, axes=[[1], [0]])  # (batch, channels, 3)
    fixed = ops.tensordot(k, np.ones((6, 2), "float32"), axes=1)
    products = ops.tensordot(k, weights, axes=[[1], [0]])
    return keras.Model(x, [head(over_time), head(fixed), head(products), head(pooled)])


@exhibit
def tensordot_of_batches():
    x = keras.Input(batch_shape=(3, 4))
    a, b = layers.Dense(6)(x), layers.Dense(6)(x)
    both = ops.tensordot(a, b, axes=[[1], [1]])  # every example with every one
    outer = ops.tensordot(a, layers.Dense(5)(x), axes=[[0], [0]])
    return keras.Model(x, [layers.Dense(2)(both), layers.Dense(2)(outer)])


@exhibit
def dots_and_inner_products():
    x = keras.Input(batch_shape=(3, 4))
    a, b = layers.Dense(6)(x), layers.Dense(6)(x)
    y = ops.dot(a, ops.transpose(b))
    z = ops.dot(layers.Dense(5)(x), np.ones((5, 2), "float32"))
    return keras.Model(x, [layers.Dense(2)(y), ops.inner(a, b), layers.Dense(2)(z)])


@exhibit
def einsums_of_every_kind():
    x = tokens()
    y, z = layers.Dense(6)(x), layers.Dense(6)(x)
    turned = ops.einsum("btc->bct", y)
    summed = ops.einsum("...c->...", z)
    weighted = ops.einsum("b...c,b...c->b...", y, z)
    outer = ops.einsum("btc,btd->bcd", layers.Dense(3)(x), layers.Dense(4)(x))
    scaled = ops.einsum("btc,c->btc", y, np.linspace(0, 1, 6, dtype="float32"))
    implicit = ops.einsum("btc,bsc", y, z)
    outputs = [turned, summed, weighted, outer, scaled, implicit]
    return keras.Model(x, [head(o) for o in outputs])


@exhibit
def einsum_with_a_diagonal():
    x = tokens(6)
    return ending(x, ops.einsum("btt->bt", layers.Dense(6)(x)) + layers.Dense(6)(x)[:, 0])


@exhibit
def slices_by_start_and_size():
    x = image()
    y = conv(9)(x)
    a = ops.slice(y, (0, 1, 0, 2), (3, 4, 6, 5))
    b = ops.slice(y, (0, 0, 0, 0), (3, 4, 6, 5))
    return ending(x, conv(4)(a + b) + conv(4)(a))


@exhibit
def blocks_of_space():
    x = image(4)
    y = conv(8)(x)
    if not hasattr(ops.nn, "space_to_depth"):
        return ending(x, conv(3)(y))
    deep = ops.nn.space_to_depth(y, 2)
    wide = ops.nn.depth_to_space(conv(12, activation="relu")(deep), 2)
    return ending(x, conv(4)(layers.Concatenate()([wide, y])))


@exhibit
def unstacked_channels():
    x = tokens()
    a, b, c, d = ops.unstack(layers.Dense(4)(x), axis=-1)
    first, *_, last = ops.unstack(layers.Dense(6)(x), axis=1)
    mixed = ops.stack([a + b, c * d], axis=-1)
    return keras.Model(x, [head(mixed), head(b), layers.Dense(3)(first + last)])


@exhibit
def turns_and_splits():
    x = image()
    y = conv(8)(x)
    turned = ops.rot90(y, axes=(1, 2))
    sideways = ops.rot90(y, 3, axes=(2, 3))  # the channels become columns
    a, b, c = (
        ops.array_split(ops.fliplr(turned), 3, axis=-1)
        if hasattr(ops, "fliplr")
        else (ops.array_split(turned, 3, axis=-1))
    )
    top, bottom = ops.hsplit(y, 2) if hasattr(ops, "hsplit") else ops.split(y, 2, axis=1)
    z = ops.concatenate([c, a, b], axis=-1)
    return keras.Model(x, [head(conv(4)(z)), head(top * bottom), head(conv(3)(sideways))])


@exhibit
def stacks_of_rows():
    x = tokens()
    a, b = layers.Dense(4)(x), layers.Dense(4)(x)
    y = ops.hstack([a, b])
    z = ops.append(a, layers.Dense(3)(x), axis=-1)
    return keras.Model(x, [head(y), head(z)])


@exhibit
def tiles_and_repeats():
    x = image(4)
    y = conv(5)(x)
    y = ops.tile(y, (1, 2, 1, 3))
    y = ops.repeat(ops.roll(y, -4, axis=-1), 2, axis=1)
    y = ops.take(ops.flip(y, axis=-1), np.array([0, 3, 3, 14, 7, 2]), axis=-1)
    return ending(x, conv(4)(ops.pad(y, [[0, 0], [0, 1], [2, 0], [0, 0]], "reflect")))


@exhibit
def gathers_by_tokens():
    x = tokens()
    y = layers.Dense(6)(x)
    picked = ops.take(y, [3, 1], axis=1)
    nearest = ops.take_along_axis(y, np.array([[[0], [2]]]), axis=1)
    return keras.Model(x, [head(picked), head(nearest)])


@exhibit
def triangles():
    x = tokens(6)
    y, z = layers.Dense(6)(x), layers.Dense(5)(x)
    scores = ops.tril(ops.matmul(y, ops.transpose(y, (0, 2, 1))))
    return keras.Model(x, [head(ops.matmul(scores, z)), head(ops.triu(layers.Dense(6)(x)))])


@exhibit
def one_channel_taken_twice():
    """A copy of a channel at every position is not stretched by what it is multiplied with."""
    x = image()
    weight = conv(1, 1, activation="sigmoid")(x)
    copies = ops.take(weight, [0, 0, 0], axis=-1)
    return ending(x, conv(5)(layers.Multiply()([copies, conv(3)(x)])) * weight)


@exhibit
def gated_linear_units():
    x = tokens()
    y = ops.glu(layers.Dense(8)(x))
    z = ops.glu(layers.Dense(6)(layers.Permute((2, 1))(x)), axis=1)
    return keras.Model(x, [head(y), head(z)])


@exhibit
def attention_of_one_operation():
    x = tokens(5, 6)
    q, k, v = (ops.reshape(layers.Dense(8)(x), (-1, 5, 2, 4)) for _ in range(3))
    y = ops.dot_product_attention(q, k, v)
    z = ops.dot_product_attention(q, k, v, is_causal=True, scale=0.3)
    y = ops.reshape(ops.concatenate([y, z], axis=-1), (-1, 5, 16))
    return ending(x, layers.Dense(4)(y))


@exhibit
def norms_and_orders():
    x = image()
    y, z = conv(6)(x), conv(6, activation="sigmoid")(x)
    norms = [ops.norm(y, axis=-1), ops.norm(z, axis=-1), ops.norm(y, ord=1, axis=(1, 2))]
    if keras.backend.backend() == "jax":  # where a Norm of Keras 3.15 cannot be called
        norms = []
    orders = [ops.cast(ops.argmax(y, axis=1), "float32"), ops.sort(conv(4)(x), axis=1)]
    best = ops.top_k(conv(5)(x), 2)[0]
    spread = ops.average(conv(5)(x), axis=1) + ops.amax(conv(5)(x), axis=1)
    return keras.Model(x, [head(t) for t in (*norms, *orders, best, spread)])


@exhibit
def patches():
    x = image(6, 4)
    y = ops.image.extract_patches(conv(5)(x), (2, 2))
    y = ops.image.crop_images(ops.image.pad_images(y, 1, 1, 0, 0), 1, 0, 0, 1)
    return ending(x, layers.Dense(4)(y))


@exhibit
def classes_of_tokens():
    x = keras.Input((5,), dtype="int32")
    y = layers.Dense(6)(ops.one_hot(x, 7))
    return ending(x, y + layers.Embedding(7, 6)(x))


@exhibit
def constants_in_merges_and_models():
    x = keras.Input((4,))
    a, b = keras.Input((4,)), keras.Input((4,))
    inner = keras.Model([a, b], layers.Dense(5)(layers.Dense(6)(a) * layers.Dense(6)(b)))
    y = inner([x, ops.ones((1, 4))]) + inner([layers.Dense(4)(x), x])
    z = layers.Add()([layers.Dense(5)(x), ops.expand_dims(ops.arange(5, dtype="float32"), 0)])
    return keras.Model(x, [head(layers.Maximum()([y, z])), head(z)])


@exhibit
def a_model_called_by_the_names_of_its_inputs():
    wide, narrow = keras.Input((6,), name="b"), keras.Input((3,), name="a")
    inner = keras.Model([wide, narrow], layers.Dense(5)(wide) + layers.Dense(5)(narrow))
    x = keras.Input((4,))
    return ending(x, inner({"a": layers.Dense(3)(x), "b": layers.Dense(6)(x)}))
