"""Random graphs from a grammar of the supported layers, as strategies of hypothesis."""

import functools

import hypothesis
import hypothesis.strategies as st
import keras
import numpy as np
from keras import layers, ops

BATCH = 17  # no axis of what is drawn has so many positions: see `inputs_for`


def centred(v):
    """Mixes channels only where they are negative."""
    return ops.relu(v) + ops.mean(ops.minimum(v, 0.0), -1, keepdims=True)


def bounded(v):
    return ops.where(ops.abs(v) > 0.5, ops.sign(v), v)


def lifted(v):
    """Mixes channels only where one is large."""
    return v - ops.relu(ops.max(v, -1, keepdims=True) - 1.5)


def stepped(v):
    """Is no zero at zero."""
    return ops.where(v > 0.3, v, -0.2)


leaky_from = functools.partial(keras.activations.relu, negative_slope=0.2, threshold=0.4)
ACTIVATIONS = [None, "relu", "sigmoid", "gelu", "tanh", centred, bounded, lifted, stepped]
THRESHOLDS = (
    lambda v: layers.ReLU(max_value=0.8)(v),
    lambda v: layers.ReLU(threshold=0.3)(v),
    lambda v: layers.ReLU(threshold=0.3, negative_slope=0.2)(v),
    lambda v: layers.ReLU(max_value=1.0, threshold=0.1, negative_slope=0.2)(v),
    lambda v: layers.Activation(leaky_from)(v),
    lambda v: layers.Activation(lifted)(v),
    lambda v: layers.Activation(stepped)(v),
    lambda v: ops.threshold(v, 0.3, -0.2),
    lambda v: ops.threshold(v, -0.2, 0.5),
    lambda v: ops.hard_shrink(v, 0.3),
    lambda v: ops.soft_shrink(v, 0.3),
    lambda v: ops.hard_tanh(v),
    lambda v: ops.relu6(v + 5.5),
    lambda v: ops.clip(v, 0.1, 0.6),
    lambda v: ops.clip(v, -0.3, 0.6),
    lambda v: ops.cast(v > 0.2, "float32"),
    lambda v: ops.cast(v >= 0, "float32"),
)
UNSYMMETRIC = (
    ops.add,
    ops.subtract,
    ops.maximum,
    ops.minimum,
    ops.arctan2,
    lambda a, b: ops.where(b > 0.1, a, b),
    lambda a, b: ops.where(b > 0.1, b, a),
    lambda a, b: ops.divide(a, ops.abs(b) + 0.5),
    lambda a, b: ops.power(ops.abs(a), ops.minimum(ops.abs(b), 3.0)),
    lambda a, b: ops.select([a > 0.1, b > 0.1], [a * b, a + b], b),
    lambda a, b: ops.cast(ops.logical_or(a > 0, b > 0), "float32"),
    lambda a, b: ops.logaddexp(a, b),
)


@keras.saving.register_keras_serializable("tests")
class Shifted(layers.Dense):
    """Computes something else than the rule of its base class says."""

    def call(self, inputs):
        return super().call(inputs) + ops.mean(inputs, -1, keepdims=True)


@keras.saving.register_keras_serializable("tests")
class Renamed(layers.Dense):
    """Computes what its base class does."""

    def __init__(self, units, **kwargs):
        super().__init__(units, **kwargs)
        self.note = "mine"

    def build(self, shape):
        super().build(shape)
        self.note = str(shape)


@keras.saving.register_keras_serializable("tests")
class Standardized(layers.Dense):
    """Has a kernel that is a property: each filter has mean 0 and norm 1."""

    @property
    def kernel(self):
        kernel = self._kernel - ops.mean(self._kernel, 0, keepdims=True)
        return kernel / ops.sqrt(ops.sum(kernel**2, 0, keepdims=True) + 1e-3)


@keras.saving.register_keras_serializable("tests")
class Overruled(layers.Dense):
    """Has a property in place of the function that the base class stores."""

    @property
    def activation(self):
        return lambda x: x + ops.max(x, -1, keepdims=True)

    @activation.setter
    def activation(self, function):
        pass


@keras.saving.register_keras_serializable("tests")
class Centered(layers.BatchNormalization):
    """A norm that mixes channels before it works on each of them."""

    def call(self, inputs, training=None, mask=None):
        return super().call(inputs - ops.mean(inputs, -1, keepdims=True), training, mask)


@keras.saving.register_keras_serializable("tests")
class Biased(layers.Add):
    """A sum and a number."""

    def _merge_function(self, inputs):
        return super()._merge_function(inputs) + 0.3


@keras.saving.register_keras_serializable("tests")
class StandardizedConv(layers.Conv2D):
    """Computes through the hook that Keras has for it."""

    def convolution_op(self, inputs, kernel):
        mean, variance = ops.moments(kernel, (0, 1, 2), keepdims=True)
        return super().convolution_op(inputs, (kernel - mean) / ops.sqrt(variance + 1e-2))


def hooked(draw, x):
    """A layer that has a function set on it in place of its `call`."""
    layer = layers.Dense(width(draw))
    layer.build(x.shape)
    own = layer.call
    layer.call = lambda v, training=None: own(v) + ops.mean(v, -1, keepdims=True)
    return layer(x)


def tied(layer, other):
    """Has two layers hold one kernel."""
    layer._tracker.unlock()
    layer._untrack_variable(layer._kernel)
    layer._kernel = other._kernel
    layer._tracker.lock()


class Scaled(layers.Layer):
    """Holds numbers that it computes with, per channel or else."""

    def __init__(self, of):
        super().__init__()
        self.of = of

    def build(self, shape):
        places = tuple(shape[1:-1]) if self.of == "places" else ()
        size = 1 if self.of == "one" else shape[-1]
        self.scale = self.add_weight(shape=(*places, size), initializer="ones")
        self.shift = self.add_weight(shape=(*places, size), initializer="zeros")

    def call(self, x):
        return ops.relu(x * self.scale) + self.shift


class Halves(layers.Layer):
    """One half of what it makes gates the other, and it knows how wide that is."""

    def __init__(self, units):
        super().__init__()
        self.half = units // 2
        self.dense = layers.Dense(units)

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x):
        y = self.dense(x)
        return y[..., : self.half] * ops.sigmoid(y[..., self.half :])


class Loop(layers.Layer):
    """Calls one layer again and again, and sums up what comes out."""

    def __init__(self, units):
        super().__init__()
        self.first, self.again = layers.Dense(units), layers.Dense(units, activation="relu")

    def build(self, shape):
        self.first.build(shape)
        self.again.build((*shape[:-1], self.first.units))

    def call(self, x, training=None):
        x = self.first(x)
        for _ in range(2):
            x = x + self.again(x)
        return x


def pick(draw, *values):
    return draw(st.sampled_from(values))


def width(draw):
    return draw(st.integers(1, 6))


class Images:
    """Steps between tensors of shape (4, 4, channels)."""

    shape = (4, 4)

    @staticmethod
    def conv(draw, x, _):
        activation = pick(draw, *ACTIVATIONS)
        return layers.Conv2D(width(draw), 3, padding="same", activation=activation)(x)

    @staticmethod
    def pointwise(draw, x, _):
        return layers.Dense(width(draw), activation=pick(draw, *ACTIVATIONS))(x)

    @staticmethod
    def transpose(draw, x, _):
        return layers.Conv2DTranspose(width(draw), 3, padding="same")(x)

    @staticmethod
    def depthwise(draw, x, _):
        return layers.DepthwiseConv2D(3, padding="same", depth_multiplier=pick(draw, 1, 2))(x)

    @staticmethod
    def separable(draw, x, _):
        return layers.SeparableConv2D(width(draw), 3, padding="same")(x)

    @staticmethod
    def grouped(draw, x, _):
        groups = pick(draw, *(g for g in (1, 2, 3) if x.shape[-1] % g == 0))
        return layers.Conv2D(groups * pick(draw, 1, 2), 3, padding="same", groups=groups)(x)

    @staticmethod
    def squeeze_excite(draw, x, _):
        gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
        gate = layers.Conv2D(width(draw), 1, activation="relu")(gate)
        return x * layers.Conv2D(x.shape[-1], 1, activation="sigmoid")(gate)

    @staticmethod
    def shuffle(draw, x, _):
        groups = pick(draw, *(g for g in (1, 2, 3) if x.shape[-1] % g == 0))
        y = layers.Reshape((4, 4, groups, x.shape[-1] // groups))(x)
        return layers.Reshape((4, 4, x.shape[-1]))(layers.Permute((1, 2, 4, 3))(y))

    @staticmethod
    def pool(draw, x, _):
        y = pick(draw, layers.MaxPooling2D, layers.AveragePooling2D)(2)(x)
        return layers.UpSampling2D(2)(y)

    @staticmethod
    def turned(draw, x, _):
        return ops.transpose(x, (0, 2, 1, 3))

    @staticmethod
    def one_above_the_other(draw, x, tensors):
        same = [t for t in tensors if t.shape == x.shape]
        y = layers.Concatenate(axis=1)([x, draw(st.sampled_from(same))])
        return layers.Conv2D(width(draw), (2, 3), strides=(2, 1), padding="same")(y)

    @staticmethod
    def blocks(draw, x, _):
        y = layers.Conv2D(4 * pick(draw, 1, 2), 3, strides=2, padding="same")(x)
        y = ops.transpose(ops.reshape(y, (-1, 2, 2, 2, 2, y.shape[-1] // 4)), (0, 1, 3, 2, 4, 5))
        return ops.reshape(y, (-1, 4, 4, y.shape[-1]))

    @staticmethod
    def towers(draw, x, tensors):
        inner = keras.Input(x.shape[1:])
        y = layers.Conv2D(width(draw), 3, padding="same", activation="relu")(inner)
        tower = keras.Model(inner, layers.Concatenate()([inner, layers.Conv2D(2, 1)(y)]))
        same = [t for t in tensors if t.shape == x.shape]
        return layers.Subtract()([tower(x), tower(draw(st.sampled_from(same)))])

    @staticmethod
    def filled(draw, x, _):
        y = layers.AveragePooling2D((2, 1))(x)
        return layers.Resizing(4, 4, pad_to_aspect_ratio=True, fill_value=pick(draw, 0.0, 1.0))(y)

    @staticmethod
    def bordered(draw, x, _):
        """Filled up with numbers at the borders, or with what lies near them."""
        sides = [[0, 0], [1, 0], [0, 2], [0, 0]]
        y = pick(
            draw,
            lambda: ops.pad(x, sides, constant_values=pick(draw, 0.0, 0.7)),
            lambda: ops.pad(x, sides, mode=pick(draw, "reflect", "symmetric")),
            lambda: layers.ZeroPadding2D(((1, 0), (0, 2)))(x),
            lambda: ops.image.pad_images(x, 1, 0, 0, 2),
        )()
        return pick(
            draw,
            lambda: layers.Cropping2D(((0, 1), (1, 1)))(y),
            lambda: layers.Conv2D(width(draw), (2, 3))(y),
            lambda: y[:, :-1, 1:-1],
        )()

    @staticmethod
    def resized(draw, x, _):
        y = layers.MaxPooling2D((1, 2))(x)
        return ops.image.resize(y, (4, 4), pad_to_aspect_ratio=True, fill_value=pick(draw, 0, 0.6))

    @staticmethod
    def standardized(draw, x, _):
        """A convolution whose hook is another one."""
        return StandardizedConv(width(draw), 3, padding="same")(x)

    @staticmethod
    def prelu(draw, x, _):
        return layers.PReLU(shared_axes=[1, 2])(x)


class Sequences:
    """Steps between tensors of shape (5, channels)."""

    shape = (5,)

    @staticmethod
    def dense(draw, x, _):
        return layers.Dense(width(draw), activation=pick(draw, *ACTIVATIONS))(x)

    @staticmethod
    def conv(draw, x, _):
        return layers.Conv1D(width(draw), 3, padding="same")(x)

    @staticmethod
    def einsum_dense(draw, x, _):
        return layers.EinsumDense("btc,cd->btd", (5, width(draw)), bias_axes="d")(x)

    @staticmethod
    def recurrent(draw, x, _):
        layer = pick(draw, layers.SimpleRNN, layers.LSTM, layers.GRU)
        return layer(width(draw), return_sequences=True)(x)

    @staticmethod
    def both_ways(draw, x, _):
        inner = layers.GRU(width(draw), return_sequences=True)
        return layers.Bidirectional(inner, merge_mode=pick(draw, "concat", "sum"))(x)

    @staticmethod
    def self_attention(draw, x, _):
        return layers.MultiHeadAttention(pick(draw, 1, 2, 3), pick(draw, 1, 3))(x, x)

    @staticmethod
    def attention(draw, x, tensors):
        same = [t for t in tensors if t.shape == x.shape]
        return layers.Attention()([x, draw(st.sampled_from(tensors)), draw(st.sampled_from(same))])

    @staticmethod
    def scores(draw, x, tensors):
        same = [t for t in tensors if t.shape == x.shape]
        scores = ops.einsum("btc,bsc->bts", x, draw(st.sampled_from(same)))
        return ops.matmul(scores, draw(st.sampled_from(tensors)))

    @staticmethod
    def cells(draw, x, _):
        below = [layers.LSTMCell(width(draw)), layers.GRUCell(width(draw), reset_after=False)]
        return layers.RNN(pick(draw, below, below[0]), return_sequences=True)(x)

    @staticmethod
    def encoder_and_decoder(draw, x, tensors):
        units = width(draw)
        _, *states = layers.LSTM(units, return_state=True)(x)
        other = draw(st.sampled_from(tensors))
        return layers.LSTM(units, return_sequences=True)(other, initial_state=states)

    @staticmethod
    def heads(draw, x, _):
        heads, size = pick(draw, 1, 2), 2 * width(draw)
        parts = (ops.reshape(layers.Dense(size)(x), (-1, 5, heads, size // heads)) for _ in "qkv")
        return ops.reshape(ops.dot_product_attention(*parts), (-1, 5, size))

    @staticmethod
    def every_step(draw, x, _):
        inner = keras.Sequential([keras.Input(x.shape[2:]), layers.Dense(width(draw))])
        return layers.TimeDistributed(inner)(x)

    @staticmethod
    def one_after_the_other(draw, x, tensors):
        same = [t for t in tensors if t.shape == x.shape]
        return layers.Concatenate(axis=1)([x, draw(st.sampled_from(same))])[:, 3:8]

    @staticmethod
    def filled(draw, x, _):
        return ops.pad(x, [[0, 0], [1, 0], [0, 0]], constant_values=pick(draw, 0, 1.5))[:, :-1]

    @staticmethod
    def over_time(draw, x, _):
        return layers.Softmax(axis=1)(x) + ops.mean(x, axis=1, keepdims=True)

    @staticmethod
    def turned(draw, x, _):
        return layers.Permute((2, 1))(ops.flip(layers.Permute((2, 1))(x), -1))


class Vectors:
    """Steps between tensors of shape (channels,)."""

    shape = ()

    @staticmethod
    def dense(draw, x, _):
        return layers.Dense(width(draw), activation=pick(draw, *ACTIVATIONS))(x)

    @staticmethod
    def unit(draw, x, _):
        return layers.UnitNormalization()(x)

    @staticmethod
    def through_an_image(draw, x, _):
        y = layers.Reshape((2, 2, 3))(layers.Dense(12)(x))
        return layers.Flatten()(layers.Conv2D(width(draw), 2, padding="same")(y))

    @staticmethod
    def summed(draw, x, _):
        return x * ops.sum(x, axis=-1, keepdims=True)


class Anything:
    """Steps for tensors of any rank."""

    @staticmethod
    def batch_norm(draw, x, _):
        return layers.BatchNormalization(scale=draw(st.booleans()), center=draw(st.booleans()))(x)

    @staticmethod
    def group_norm(draw, x, _):
        groups = pick(draw, *(g for g in (1, 2, 3) if x.shape[-1] % g == 0), -1)
        return layers.GroupNormalization(groups)(x)

    @staticmethod
    def layer_norm(draw, x, _):
        return layers.LayerNormalization()(x)

    @staticmethod
    def activation(draw, x, _):
        return layers.Activation(pick(draw, *ACTIVATIONS[1:], "softmax"))(x)

    @staticmethod
    def scaled(draw, x, _):
        return pick(draw, x * 2.0 + 0.5, layers.Rescaling(2.0, 0.1)(x), -ops.abs(x))

    @staticmethod
    def dropout(draw, x, _):
        return layers.Dropout(0.5)(x)

    @staticmethod
    def add(draw, x, tensors):
        other = draw(st.sampled_from([t for t in tensors if t.shape == x.shape]))
        return pick(draw, layers.Add(), layers.Multiply(), layers.Maximum())([x, other])

    @staticmethod
    def broadcast(draw, x, tensors):
        single = [t for t in tensors if t.shape[-1] in (1, x.shape[-1])]
        return x * draw(st.sampled_from([x, *single]))

    @staticmethod
    def merged(draw, x, tensors):
        """With a tensor of one channel or of as many, on either side."""
        other = draw(st.sampled_from([t for t in tensors if t.shape[-1] in (1, x.shape[-1])]))
        pair = draw(st.permutations([x, pick(draw, other, other[..., :1])]))
        return draw(st.sampled_from(UNSYMMETRIC))(*pair)

    @staticmethod
    def by_place(draw, x, _):
        """With an array that differs from place to place, or from channel to channel."""
        numbers = np.linspace(-1, 1, x.shape[1], dtype="float32")
        numbers = numbers.reshape(-1, *[1] * (len(x.shape) - 2))
        bounds = np.linspace(0.2, 1, x.shape[-1], dtype="float32")
        return pick(
            draw,
            lambda: x * numbers,
            lambda: ops.add(numbers, x),
            lambda: ops.clip(x, -0.5, bounds),
        )()

    @staticmethod
    def by_channel(draw, x, _):
        """With an array that has a number for each channel."""
        numbers = np.linspace(-1, 1, x.shape[-1], dtype="float32")
        return pick(
            draw,
            lambda: x * numbers,
            lambda: ops.subtract(numbers, x),
            lambda: ops.where(numbers > 0, x, 0.5),
            lambda: ops.maximum(x, numbers),
            lambda: layers.Rescaling(numbers.tolist(), 0.1)(x),
            lambda: layers.Rescaling(1.5, numbers.tolist())(x),
        )()

    @staticmethod
    def over_places(draw, x, _):
        """With the axis of a layer on another one than the channels'."""
        if len(x.shape) < 3:
            return x
        return pick(
            draw,
            lambda: layers.BatchNormalization(axis=1)(x),
            lambda: layers.LayerNormalization(axis=1)(x),
            lambda: layers.UnitNormalization(axis=1)(x),
            lambda: layers.GroupNormalization(1, axis=1)(x),
            lambda: ops.softmax(x, axis=1),
            lambda: ops.cumsum(x, axis=1),
            lambda: ops.max(x, axis=1, keepdims=True, initial=pick(draw, -9.0, 0.2)) + x,
        )()

    @staticmethod
    def thresholds(draw, x, _):
        return pick(draw, *THRESHOLDS)(x)

    @staticmethod
    def subclassed(draw, x, _):
        return pick(draw, Shifted, Renamed, Standardized, Overruled)(width(draw))(x)

    @staticmethod
    def subclassed_within(draw, x, tensors):
        other = draw(st.sampled_from([t for t in tensors if t.shape == x.shape]))
        return pick(draw, lambda: Centered()(x), lambda: Biased()([x, other]))()

    @staticmethod
    def hooked(draw, x, _):
        return hooked(draw, x)

    @staticmethod
    def shared_kernel(draw, x, _):
        """Two layers that hold one variable, beside or behind one another."""
        units = pick(draw, x.shape[-1], width(draw))
        first, second = layers.Dense(units), layers.Dense(units, activation="relu")
        for layer in (first, second):
            layer.build(x.shape)
        tied(second, first)
        if units == x.shape[-1]:
            return second(ops.relu(first(x)))
        return ops.concatenate([first(x), second(x)], axis=-1)

    @staticmethod
    def turned_kernel(draw, x, _):
        """A layer's kernel there, and the same turned on the way back."""
        layer = layers.Dense(width(draw))
        return ops.matmul(ops.relu(layer(x)), ops.transpose(layer.kernel))

    @staticmethod
    def own_weights(draw, x, _):
        return Scaled(pick(draw, "channels", "one", "places"))(x)

    @staticmethod
    def numbered(draw, x, _):
        """Code that says a size."""
        return pick(draw, Halves, Loop)(2 * width(draw))(x)

    @staticmethod
    def summed_up(draw, x, _):
        return x + ops.sum(x, axis=-1, keepdims=True)

    @staticmethod
    def concatenate(draw, x, tensors):
        return layers.Concatenate()([x, draw(st.sampled_from(tensors))])

    @staticmethod
    def sliced(draw, x, _):
        first = draw(st.integers(0, x.shape[-1] - 1))
        return x[..., first : draw(st.integers(first + 1, x.shape[-1])) : pick(draw, 1, 2)]

    @staticmethod
    def split(draw, x, _):
        if x.shape[-1] < 2:
            return x
        a, b = ops.split(x, [draw(st.integers(1, x.shape[-1] - 1))], axis=-1)
        return pick(draw, a, ops.concatenate([b, a], axis=-1))

    @staticmethod
    def pad(draw, x, _):
        """Beside the channels, with zeros, other numbers or the channels themselves."""
        sides = [*[[0, 0]] * (len(x.shape) - 1), [pick(draw, 0, 1), pick(draw, 1, 2)]]
        return pick(
            draw,
            lambda: ops.pad(x, sides),
            lambda: ops.pad(x, sides, constant_values=0.6),
            lambda: ops.pad(x, sides, mode="symmetric") if x.shape[-1] > 1 else ops.pad(x, sides),
        )()

    @staticmethod
    def take(draw, x, _):
        indices = draw(st.lists(st.integers(0, x.shape[-1] - 1), min_size=1, max_size=5))
        return ops.take(x, indices, axis=-1)

    @staticmethod
    def repeated(draw, x, _):
        return pick(draw, ops.repeat(x, 2, axis=-1), ops.roll(x, 1, axis=-1), ops.flip(x, axis=-1))

    @staticmethod
    def taken_apart(draw, x, _):
        parts = ops.unstack(x, axis=-1)
        return ops.stack(draw(st.permutations(parts)), axis=-1)

    @staticmethod
    def gated(draw, x, _):
        return ops.glu(layers.Dense(2 * width(draw))(x))

    @staticmethod
    def normed(draw, x, _):
        return x * ops.norm(x, ord=pick(draw, 1, 2), axis=(-1,), keepdims=True)

    @staticmethod
    def residual(draw, x, _):
        inner = keras.Input(x.shape[1:])
        y = layers.Dense(x.shape[-1])(layers.Dense(width(draw), activation="relu")(inner))
        return x + keras.Model(inner, y)(x)

    @staticmethod
    def twice(draw, x, _):
        shared = layers.Dense(x.shape[-1])
        return shared(shared(x))


def steps(kind):
    return [
        getattr(cls, name)
        for cls in (kind, Anything)
        for name, value in vars(cls).items()
        if isinstance(value, staticmethod)
    ]


@keras.saving.register_keras_serializable("tests")
class Code(keras.Model):
    """What it computes is what its `call` does, which nobody reads but by running it."""

    def call(self, inputs):
        return super().call(inputs)


class Block(layers.Layer):
    """Holds what it calls, as layers of a user's own do."""

    def __init__(self, inner):
        super().__init__()
        self.parts = [{"inner": inner}]

    def call(self, x):
        for part in self.parts:
            x = part["inner"](x)
        return x


def is_dense(x):
    """Keras takes the product with an array for sparse, which a layer of code then gets."""
    return not x.sparse


def in_code(draw, x, kind):
    """A few steps inside of a layer that has to be seen through."""
    inputs = keras.Input(x.shape[1:])
    tensors = [inputs]
    for _ in range(draw(st.integers(1, 3))):
        result = draw(st.sampled_from(steps(kind)))(draw, tensors[-1], tensors)
        if is_dense(result):
            tensors.append(result)
    try:
        return Block(Code(inputs, tensors[-1]))(x)
    except RuntimeError:  # on PyTorch, operations whose shape Keras has mistaken do not run
        hypothesis.reject()


def check_networks(kind, count, check, *drawn):
    """Checks random networks: `check` gets a model, and what is drawn beside it."""
    hypothesis.settings(
        max_examples=count, suppress_health_check=list(hypothesis.HealthCheck), deadline=None
    )(hypothesis.given(networks(kind), *drawn)(check))()


@st.composite
def networks(draw, kind):
    inputs = keras.Input((*kind.shape, 2))
    tensors = [layers.Dense(width(draw))(inputs)]
    for _ in range(draw(st.integers(1, 8))):
        chosen = draw(st.sampled_from(tensors))
        if draw(st.integers(0, 5)) == 0:
            result = in_code(draw, chosen, kind)
        else:
            result = draw(st.sampled_from(steps(kind)))(draw, chosen, tensors)
        if result.shape[-1] <= 16 and is_dense(result):
            tensors.append(result)
    outputs = []
    for x in {id(t): t for t in (tensors[-1], draw(st.sampled_from(tensors)))}.values():
        if len(x.shape) > 2 and draw(st.booleans()):
            x = ops.mean(x, axis=tuple(range(1, len(x.shape) - 1)))
        elif len(x.shape) > 2:
            x = layers.Flatten()(x)
        outputs.append(layers.Dense(3)(x))
    return draw(st.sampled_from([keras.Model, keras.Model, Code]))(inputs, outputs)
