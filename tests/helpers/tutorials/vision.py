"""Networks on images and video, written as tutorials on computer vision write them."""

import keras
import numpy as np
from keras import layers, ops


class Patches(layers.Layer):
    """Cuts an image into a row of flat patches."""

    def __init__(self, patch_size, **kwargs):
        super().__init__(**kwargs)
        self.patch_size = patch_size

    def call(self, images):
        batch, height, width, channels = ops.shape(images)
        rows, columns = height // self.patch_size, width // self.patch_size
        patches = ops.image.extract_patches(images, size=self.patch_size)
        return ops.reshape(patches, (batch, rows * columns, self.patch_size**2 * channels))


class PatchEncoder(layers.Layer):
    """Projects patches, and adds an embedding for each position."""

    def __init__(self, count, width, **kwargs):
        super().__init__(**kwargs)
        self.count = count
        self.projection = layers.Dense(units=width)
        self.position_embedding = layers.Embedding(input_dim=count, output_dim=width)

    def call(self, patch):
        positions = ops.expand_dims(ops.arange(start=0, stop=self.count, step=1), axis=0)
        return self.projection(patch) + self.position_embedding(positions)


class StochasticDepth(layers.Layer):
    """Drops whole examples of a residual branch."""

    def __init__(self, drop_prob, **kwargs):
        super().__init__(**kwargs)
        self.drop_prob = drop_prob
        self.seed_generator = keras.random.SeedGenerator(1337)

    def call(self, x, training=None):
        if training:
            keep_prob = 1 - self.drop_prob
            shape = (ops.shape(x)[0],) + (1,) * (len(x.shape) - 1)
            noise = keep_prob + keras.random.uniform(shape, 0, 1, seed=self.seed_generator)
            return (x / keep_prob) * ops.floor(noise)
        return x


def mlp(x, hidden_units, dropout_rate):
    for units in hidden_units:
        x = layers.Dense(units, activation="gelu")(x)
        x = layers.Dropout(dropout_rate)(x)
    return x


class MixerBlock(layers.Layer):
    def __init__(self, tokens, width, hidden, **kwargs):
        super().__init__(**kwargs)
        self.token_mlp = keras.Sequential(
            [layers.Dense(hidden, activation="gelu"), layers.Dense(tokens), layers.Dropout(0.1)]
        )
        self.channel_mlp = keras.Sequential(
            [layers.Dense(hidden, activation="gelu"), layers.Dense(width), layers.Dropout(0.1)]
        )
        self.normalize = layers.LayerNormalization(epsilon=1e-6)

    def call(self, inputs):
        x = ops.transpose(self.normalize(inputs), (0, 2, 1))
        x = ops.transpose(self.token_mlp(x), (0, 2, 1)) + inputs
        return x + self.channel_mlp(self.normalize(x))


def build_mlp_mixer():
    inputs = keras.Input((8, 8, 3))
    x = Patches(2)(inputs)
    x = layers.Dense(8)(x)
    x = keras.Sequential([MixerBlock(16, 8, 12) for _ in range(2)])(x)
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, layers.Dense(4)(layers.Dropout(0.2)(x)), name="mlp_mixer")


class SpatialGatingBlock(layers.Layer):
    def __init__(self, tokens, width, **kwargs):
        super().__init__(**kwargs)
        self.project_in = keras.Sequential([layers.Dense(width * 2, activation="gelu")])
        self.project_out = layers.Dense(width)
        self.norm_in = layers.LayerNormalization(epsilon=1e-6)
        self.norm_gate = layers.LayerNormalization(epsilon=1e-6)
        self.spatial_projection = layers.Dense(tokens, bias_initializer="ones")

    def gate(self, x):
        u, v = ops.split(x, 2, axis=2)
        v = ops.transpose(self.norm_gate(v), (0, 2, 1))
        v = ops.transpose(self.spatial_projection(v), (0, 2, 1))
        return u * v

    def call(self, inputs):
        x = self.project_in(self.norm_in(inputs))
        return inputs + self.project_out(self.gate(x))


def build_gmlp():
    inputs = keras.Input((8, 8, 3))
    x = Patches(2)(inputs)
    x = layers.Dense(8)(x)
    for _ in range(2):
        x = SpatialGatingBlock(16, 8)(x)
    return keras.Model(inputs, layers.Dense(4)(layers.GlobalAveragePooling1D()(x)), name="gmlp")


def window_partition(x, size):
    _, height, width, channels = x.shape
    x = ops.reshape(x, (-1, height // size, size, width // size, size, channels))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (-1, size, size, channels))


def window_reverse(windows, size, height, width, channels):
    x = ops.reshape(windows, (-1, height // size, width // size, size, size, channels))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (-1, height, width, channels))


class WindowAttention(layers.Layer):
    def __init__(self, dim, window_size, num_heads, **kwargs):
        super().__init__(**kwargs)
        self.dim, self.window_size, self.num_heads = dim, window_size, num_heads
        self.scale = (dim // num_heads) ** -0.5
        self.qkv = layers.Dense(dim * 3)
        self.dropout = layers.Dropout(0.1)
        self.proj = layers.Dense(dim)

    def build(self, input_shape):
        span = 2 * self.window_size - 1
        self.bias_table = self.add_weight(shape=(span**2, self.num_heads), name="bias_table")
        grid = np.stack(np.meshgrid(*[np.arange(self.window_size)] * 2, indexing="ij"))
        flat = grid.reshape(2, -1)
        offsets = (flat[:, :, None] - flat[:, None, :]).transpose(1, 2, 0) + self.window_size - 1
        self.bias_index = offsets[:, :, 0] * span + offsets[:, :, 1]

    def call(self, x, mask=None):
        _, size, channels = x.shape
        head_dim = channels // self.num_heads
        qkv = ops.reshape(self.qkv(x), (-1, size, 3, self.num_heads, head_dim))
        qkv = ops.transpose(qkv, (2, 0, 3, 1, 4))
        query, key, value = qkv[0] * self.scale, qkv[1], qkv[2]
        scores = query @ ops.transpose(key, (0, 1, 3, 2))
        bias = ops.take(self.bias_table, self.bias_index.reshape(-1), axis=0)
        bias = ops.transpose(ops.reshape(bias, (size, size, -1)), (2, 0, 1))
        scores = scores + ops.expand_dims(bias, axis=0)
        if mask is not None:
            windows = mask.shape[0]
            scores = ops.reshape(scores, (-1, windows, self.num_heads, size, size))
            scores = scores + ops.expand_dims(ops.expand_dims(mask, axis=1), axis=0)
            scores = ops.reshape(scores, (-1, self.num_heads, size, size))
        scores = self.dropout(keras.activations.softmax(scores, axis=-1))
        x = ops.transpose(scores @ value, (0, 2, 1, 3))
        return self.dropout(self.proj(ops.reshape(x, (-1, size, channels))))


class SwinBlock(layers.Layer):
    def __init__(self, dim, side, num_heads, window_size=2, shift_size=0, **kwargs):
        super().__init__(**kwargs)
        self.dim, self.side = dim, side
        self.window_size, self.shift_size = window_size, shift_size
        self.norm1 = layers.LayerNormalization(epsilon=1e-5)
        self.attn = WindowAttention(dim, window_size, num_heads)
        self.drop_path = StochasticDepth(0.1)
        self.norm2 = layers.LayerNormalization(epsilon=1e-5)
        self.mlp = keras.Sequential(
            [layers.Dense(dim * 2), layers.Activation(keras.activations.gelu), layers.Dense(dim)]
        )

    def build(self, input_shape):
        self.attn_mask = None
        if self.shift_size:
            regions = np.zeros((1, self.side, self.side, 1), "float32")
            cuts = [slice(0, -self.window_size), slice(-self.window_size, -self.shift_size)]
            cuts.append(slice(-self.shift_size, None))
            for number, (rows, columns) in enumerate((a, b) for a in cuts for b in cuts):
                regions[:, rows, columns, :] = number
            size = self.window_size
            windows = regions.reshape(1, self.side // size, size, self.side // size, size, 1)
            windows = windows.transpose(0, 1, 3, 2, 4, 5).reshape(-1, size * size)
            different = windows[:, None, :] != windows[:, :, None]
            self.attn_mask = ops.convert_to_tensor(np.where(different, -100.0, 0.0), "float32")

    def call(self, x, training=False):
        shortcut = x
        x = self.norm1(x)
        x = ops.reshape(x, (-1, self.side, self.side, self.dim))
        if self.shift_size > 0:
            x = ops.roll(x, shift=[-self.shift_size, -self.shift_size], axis=[1, 2])
        windows = window_partition(x, self.window_size)
        windows = ops.reshape(windows, (-1, self.window_size**2, self.dim))
        windows = self.attn(windows, mask=self.attn_mask)
        x = window_reverse(windows, self.window_size, self.side, self.side, self.dim)
        if self.shift_size > 0:
            x = ops.roll(x, shift=[self.shift_size, self.shift_size], axis=[1, 2])
        x = ops.reshape(x, (-1, self.side**2, self.dim))
        x = self.drop_path(x, training=training) + shortcut
        return self.drop_path(self.mlp(self.norm2(x)), training=training) + x


class PatchMerging(layers.Layer):
    def __init__(self, side, dim, **kwargs):
        super().__init__(**kwargs)
        self.side, self.dim = side, dim
        self.linear_trans = layers.Dense(2 * dim, use_bias=False)

    def call(self, x):
        x = ops.reshape(x, (-1, self.side, self.side, self.dim))
        corners = [x[:, i::2, j::2, :] for i in (0, 1) for j in (0, 1)]
        x = ops.concatenate(corners, axis=-1)
        return self.linear_trans(ops.reshape(x, (-1, (self.side // 2) ** 2, 4 * self.dim)))


def build_swin():
    inputs = keras.Input((8, 8, 3))
    x = Patches(2)(inputs)
    x = PatchEncoder(16, 8)(x)
    x = SwinBlock(8, 4, 2, shift_size=0)(x)
    x = SwinBlock(8, 4, 2, shift_size=1)(x)
    x = PatchMerging(4, 8)(x)
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, layers.Dense(4)(x), name="swin")


def build_vit():
    inputs = keras.Input((8, 8, 3))
    augmented = keras.Sequential([layers.RandomFlip("horizontal")], name="augmentation")(inputs)
    encoded = PatchEncoder(16, 8)(Patches(2)(augmented))
    for _ in range(2):
        x1 = layers.LayerNormalization(epsilon=1e-6)(encoded)
        attention = layers.MultiHeadAttention(num_heads=2, key_dim=4, dropout=0.1)(x1, x1)
        x2 = layers.Add()([attention, encoded])
        x3 = mlp(layers.LayerNormalization(epsilon=1e-6)(x2), [16, 8], 0.1)
        encoded = layers.Add()([x3, x2])
    x = layers.LayerNormalization(epsilon=1e-6)(encoded)
    x = layers.Dropout(0.5)(layers.Flatten()(x))
    return keras.Model(inputs, layers.Dense(4)(mlp(x, [12], 0.5)), name="vit")


class ShiftedPatchTokenization(layers.Layer):
    def __init__(self, image_size, patch_size, width, **kwargs):
        super().__init__(**kwargs)
        self.image_size, self.half_patch = image_size, patch_size // 2
        self.patches = Patches(patch_size)
        self.flatten_patches = layers.Reshape(((image_size // patch_size) ** 2, 15 * patch_size**2))
        self.projection = layers.Dense(width)
        self.layer_norm = layers.LayerNormalization(epsilon=1e-6)

    def shifted(self, images, down, right):
        far = self.image_size - self.half_patch
        crop = images[:, : far if down else None, : far if right else None]
        if not down:
            crop = crop[:, self.half_patch :]
        if not right:
            crop = crop[:, :, self.half_patch :]
        before_and_after = [(0, self.half_patch), (self.half_patch, 0)]
        padding = ((0, 0), before_and_after[down], before_and_after[right], (0, 0))
        return ops.pad(crop, padding)

    def call(self, images):
        every = [self.shifted(images, down, right) for down in (0, 1) for right in (0, 1)]
        images = ops.concatenate([images, *every], axis=-1)
        flat = self.flatten_patches(self.patches(images))
        return self.projection(self.layer_norm(flat))


class LocalitySelfAttention(layers.Layer):
    """Attention with a temperature that is learned, and no token that attends to itself."""

    def __init__(self, width, heads, **kwargs):
        super().__init__(**kwargs)
        self.heads, self.head_dim = heads, width // heads
        self.projections = {name: layers.Dense(width) for name in ("query", "key", "value")}
        self.output_dense = layers.Dense(width)

    def build(self, input_shape):
        self.tau = self.add_weight(
            name="tau", shape=(), initializer=keras.initializers.Constant(self.head_dim**0.5)
        )
        self.tokens = input_shape[1]
        self.diagonal = 1 - ops.eye(self.tokens, dtype="int8")

    def separate_heads(self, x, batch):
        x = ops.reshape(x, (batch, -1, self.heads, self.head_dim))
        return ops.transpose(x, (0, 2, 1, 3))

    def call(self, x):
        batch = ops.shape(x)[0]
        q, k, v = (self.separate_heads(layer(x), batch) for layer in self.projections.values())
        scores = ops.einsum("bhqd,bhkd->bhqk", q, k) / self.tau
        scores = ops.where(ops.cast(self.diagonal, "bool"), scores, -1e9)
        x = ops.einsum("bhqk,bhkd->bhqd", ops.softmax(scores, axis=-1), v)
        width = self.heads * self.head_dim
        x = ops.reshape(ops.transpose(x, (0, 2, 1, 3)), (batch, self.tokens, width))
        return self.output_dense(x)


def build_small_vit():
    inputs = keras.Input((8, 8, 3))
    x = ShiftedPatchTokenization(8, 2, 8)(inputs)
    x = x + layers.Embedding(16, 8)(ops.arange(16))
    for _ in range(2):
        x = layers.Add()([LocalitySelfAttention(8, 2)(layers.LayerNormalization()(x)), x])
        x = layers.Add()([mlp(layers.LayerNormalization()(x), [16, 8], 0.1), x])
    x = layers.Flatten()(layers.LayerNormalization()(x))
    return keras.Model(inputs, layers.Dense(4)(x), name="small_vit")


class ConvTokenizer(layers.Layer):
    def __init__(self, filters=(8, 12), **kwargs):
        super().__init__(**kwargs)
        self.conv_model = keras.Sequential()
        for count in filters:
            self.conv_model.add(layers.Conv2D(count, 3, use_bias=False, activation="relu"))
            self.conv_model.add(layers.ZeroPadding2D(1))
            self.conv_model.add(layers.MaxPooling2D(3, 2, "same"))

    def call(self, images):
        outputs = self.conv_model(images)
        _, height, width, channels = outputs.shape
        return ops.reshape(outputs, (-1, height * width, channels))


class PositionEmbedding(layers.Layer):
    def build(self, input_shape):
        _, length, width = input_shape
        self.position_embeddings = self.add_weight(
            name="embeddings", shape=(length, width), initializer="glorot_uniform"
        )

    def call(self, inputs):
        length, width = ops.shape(inputs)[-2], ops.shape(inputs)[-1]
        positions = ops.slice(self.position_embeddings, (0, 0), (length, width))
        return ops.broadcast_to(positions, ops.shape(inputs))


class SequencePooling(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.attention = layers.Dense(1)

    def call(self, x):
        weights = ops.softmax(self.attention(x), axis=1)
        weights = ops.transpose(weights, (0, 2, 1))
        return ops.squeeze(ops.matmul(weights, x), axis=-2)


def build_compact_transformer():
    inputs = keras.Input((8, 8, 3))
    encoded = ConvTokenizer()(inputs)
    encoded = encoded + PositionEmbedding()(encoded)
    for rate in np.linspace(0, 0.1, 2):
        x1 = layers.LayerNormalization(epsilon=1e-5)(encoded)
        attention = layers.MultiHeadAttention(num_heads=2, key_dim=6)(x1, x1)
        x2 = layers.Add()([StochasticDepth(rate)(attention), encoded])
        x3 = mlp(layers.LayerNormalization(epsilon=1e-5)(x2), [16, 12], 0.1)
        encoded = layers.Add()([StochasticDepth(rate)(x3), x2])
    pooled = SequencePooling()(layers.LayerNormalization(epsilon=1e-5)(encoded))
    return keras.Model(inputs, layers.Dense(4)(pooled), name="compact_transformer")


class ActivationBlock(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.norm = layers.BatchNormalization()

    def call(self, x, training=None):
        return self.norm(keras.activations.gelu(x), training=training)


class ConvMixer(keras.Model):
    def __init__(self, filters=8, depth=2, classes=4, **kwargs):
        super().__init__(**kwargs)
        self.rescale = layers.Rescaling(scale=1.0 / 2)
        self.stem = layers.Conv2D(filters, 2, strides=2)
        self.stem_activation = ActivationBlock()
        self.blocks = [
            {
                "depthwise": layers.DepthwiseConv2D(3, padding="same"),
                "depthwise_activation": ActivationBlock(),
                "pointwise": layers.Conv2D(filters, 1),
                "pointwise_activation": ActivationBlock(),
            }
            for _ in range(depth)
        ]
        self.pool = layers.GlobalAvgPool2D()
        self.classifier = layers.Dense(classes)

    def call(self, images, training=None):
        x = self.stem_activation(self.stem(self.rescale(images)), training=training)
        for block in self.blocks:
            residual = x
            x = block["depthwise_activation"](block["depthwise"](x), training=training) + residual
            x = block["pointwise_activation"](block["pointwise"](x), training=training)
        return self.classifier(self.pool(x))


def build_convmixer():
    model = ConvMixer()
    model(np.zeros((1, 8, 8, 3), "float32"))
    return model


def external_attention(x, width, heads, memory=8):
    _, tokens, _ = x.shape
    x = layers.Dense(width * 2)(x)
    x = ops.reshape(x, (-1, tokens, heads, width * 2 // heads))
    x = ops.transpose(x, (0, 2, 1, 3))
    weights = layers.Dense(memory)(x)
    weights = layers.Activation("softmax")(weights)
    weights = weights / (1e-6 + ops.sum(weights, axis=2, keepdims=True))
    x = layers.Dense(width * 2 // heads)(weights)
    x = ops.reshape(ops.transpose(x, (0, 2, 1, 3)), (-1, tokens, width * 2))
    return layers.Dropout(0.1)(layers.Dense(width)(x))


def build_eanet():
    inputs = keras.Input((8, 8, 3))
    x = PatchEncoder(16, 8)(Patches(2)(inputs))
    for _ in range(2):
        x = layers.add([external_attention(layers.LayerNormalization()(x), 8, 2), x])
        x = layers.add([mlp(layers.LayerNormalization()(x), [16, 8], 0.1), x])
    return keras.Model(inputs, layers.Dense(4)(layers.GlobalAveragePooling1D()(x)), name="eanet")


def perceiver_feed_forward(width):
    return keras.Sequential([layers.Dense(width * 2, activation="gelu"), layers.Dense(width)])


class Perceiver(keras.Model):
    """Learned latents that read the patches, and then each other."""

    def __init__(self, latents=4, width=8, rounds=2, classes=4):
        super().__init__()
        self.latents, self.width, self.rounds, self.classes = latents, width, rounds, classes

    def build(self, input_shape):
        self.latent_array = self.add_weight(
            shape=(self.latents, self.width), initializer="random_normal", name="latents"
        )
        self.patcher = Patches(2)
        self.patch_encoder = PatchEncoder(16, self.width)
        self.norms = {name: layers.LayerNormalization() for name in ("latent", "patch", "cross")}
        self.query, self.key, self.value = (layers.Dense(self.width) for _ in range(3))
        self.attend = layers.Attention(use_scale=True, dropout=0.1)
        self.cross_feed_forward = perceiver_feed_forward(self.width)
        self.self_attention = layers.MultiHeadAttention(num_heads=2, key_dim=4)
        self.feed_forward = perceiver_feed_forward(self.width)
        self.global_average_pooling = layers.GlobalAveragePooling1D()
        self.classification_head = layers.Dense(self.classes)
        super().build(input_shape)

    def call(self, inputs):
        patches = self.norms["patch"](self.patch_encoder(self.patcher(inputs)))
        latents = ops.expand_dims(self.latent_array, 0)
        for _ in range(self.rounds):  # the same weights in each round
            normed = self.norms["latent"](latents)
            read = self.attend([self.query(normed), self.key(patches), self.value(patches)])
            latents = self.norms["cross"](read + latents)
            latents = latents + self.cross_feed_forward(latents)
            latents = latents + self.self_attention(latents, latents)
            latents = latents + self.feed_forward(latents)
        return self.classification_head(self.global_average_pooling(latents))


def build_perceiver():
    model = Perceiver()
    model(np.zeros((2, 8, 8, 3), "float32"))
    return model


class InvertedResidual(layers.Layer):
    def __init__(self, expanded, filters, strides=1, **kwargs):
        super().__init__(**kwargs)
        self.expanded, self.filters, self.strides = expanded, filters, strides

    def build(self, input_shape):
        self.shortcut = input_shape[-1] == self.filters and self.strides == 1
        self.expand = layers.Conv2D(self.expanded, 1, use_bias=False)
        self.depthwise = layers.DepthwiseConv2D(
            3, strides=self.strides, padding="same", use_bias=False
        )
        self.project = layers.Conv2D(self.filters, 1, use_bias=False)
        self.norms = [layers.BatchNormalization() for _ in range(3)]

    def call(self, x, training=None):
        m = ops.silu(self.norms[0](self.expand(x), training=training))
        m = ops.silu(self.norms[1](self.depthwise(m), training=training))
        m = self.norms[2](self.project(m), training=training)
        return x + m if self.shortcut else m


def mobilevit_block(x, width, patch_size=4):
    local = layers.Conv2D(width, 3, padding="same", activation="swish")(x)
    local = layers.Conv2D(width, 1, padding="same", activation="swish")(local)
    patches = local.shape[1] * local.shape[2] // patch_size
    unfolded = layers.Reshape((patch_size, patches, width))(local)
    for _ in range(2):
        x1 = layers.LayerNormalization(epsilon=1e-6)(unfolded)
        x2 = layers.Add()([layers.MultiHeadAttention(2, width)(x1, x1), unfolded])
        x3 = mlp(layers.LayerNormalization(epsilon=1e-6)(x2), [width * 2, width], 0.1)
        unfolded = layers.Add()([x3, x2])
    folded = layers.Reshape((*local.shape[1:-1], width))(unfolded)
    folded = layers.Conv2D(x.shape[-1], 1, activation="swish")(folded)
    merged = layers.Concatenate(axis=-1)([x, folded])
    return layers.Conv2D(width, 3, padding="same", activation="swish")(merged)


def build_mobilevit():
    inputs = keras.Input((16, 16, 3))
    x = layers.Rescaling(1.0 / 4)(inputs)
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="swish")(x)
    x = InvertedResidual(16, 8)(x)
    x = InvertedResidual(16, 10, strides=2)(x)
    x = mobilevit_block(x, 8)
    return keras.Model(inputs, layers.Dense(4)(layers.GlobalAvgPool2D()(x)), name="mobilevit")


class TubeletEmbedding(layers.Layer):
    def __init__(self, width, patch_size, **kwargs):
        super().__init__(**kwargs)
        self.projection = layers.Conv3D(width, patch_size, strides=patch_size, padding="VALID")
        self.flatten = layers.Reshape(target_shape=(-1, width))

    def call(self, videos):
        return self.flatten(self.projection(videos))


class PositionalEncoder(layers.Layer):
    def __init__(self, width, **kwargs):
        super().__init__(**kwargs)
        self.width = width

    def build(self, input_shape):
        _, tokens, _ = input_shape
        self.position_embedding = layers.Embedding(input_dim=tokens, output_dim=self.width)
        self.positions = ops.arange(0, tokens, 1)

    def call(self, encoded_tokens):
        return encoded_tokens + self.position_embedding(self.positions)


def build_video_vit():
    inputs = keras.Input((4, 8, 8, 1))
    encoded = PositionalEncoder(8)(TubeletEmbedding(8, (2, 4, 4))(inputs))
    x1 = layers.LayerNormalization(epsilon=1e-6)(encoded)
    attention = layers.MultiHeadAttention(num_heads=2, key_dim=4, dropout=0.1)(x1, x1)
    x2 = layers.Add()([attention, encoded])
    x3 = keras.Sequential([layers.Dense(32, "gelu"), layers.Dense(8, "gelu")])(
        layers.LayerNormalization(epsilon=1e-6)(x2)
    )
    x = layers.LayerNormalization(epsilon=1e-6)(layers.Add()([x3, x2]))
    x = layers.GlobalAvgPool1D()(x)
    return keras.Model(inputs, layers.Dense(4, activation="softmax")(x), name="video_vit")


class Involution(layers.Layer):
    """A kernel for each place, made from what is there."""

    def __init__(self, channel, group_number, kernel_size, reduction_ratio, **kwargs):
        super().__init__(**kwargs)
        self.channel, self.group_number = channel, group_number
        self.kernel_size, self.reduction_ratio = kernel_size, reduction_ratio

    def build(self, input_shape):
        _, height, width, channels = input_shape
        square = self.kernel_size**2
        self.kernel_gen = keras.Sequential(
            [
                layers.Conv2D(self.channel // self.reduction_ratio, 1),
                layers.BatchNormalization(),
                layers.ReLU(),
                layers.Conv2D(square * self.group_number, 1),
            ]
        )
        group = channels // self.group_number
        self.kernel_reshape = layers.Reshape((height, width, square, 1, self.group_number))
        self.patches_reshape = layers.Reshape((height, width, square, group, self.group_number))
        self.output_reshape = layers.Reshape((height, width, channels))

    def call(self, x):
        kernel = self.kernel_reshape(self.kernel_gen(x))
        patches = ops.image.extract_patches(x, size=self.kernel_size, strides=1, padding="same")
        output = ops.multiply(kernel, self.patches_reshape(patches))
        return self.output_reshape(ops.sum(output, axis=3)), kernel


def build_involution():
    inputs = keras.Input((8, 8, 4))
    x, _ = Involution(4, 1, 3, 2, name="inv_1")(inputs)
    x = layers.MaxPooling2D((2, 2))(layers.ReLU()(x))
    x = layers.Conv2D(12, 3, padding="same", activation="relu")(x)
    x, _ = Involution(12, 2, 3, 2, name="inv_2")(x)
    x = layers.Flatten()(layers.ReLU()(x))
    x = layers.Dense(12, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(4)(x), name="involution")


class GhostModule(layers.Layer):
    """Half of the channels by a convolution, the other half by a cheap one over the first."""

    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.branches = {
            "primary": [layers.Conv2D(filters // 2, 1), layers.BatchNormalization()],
            "cheap": [layers.DepthwiseConv2D(3, padding="same"), layers.BatchNormalization()],
        }
        self.concat = layers.Concatenate()

    def call(self, x, training=False):
        outputs = []
        for convolution, norm in self.branches.values():
            x = ops.relu(norm(convolution(x), training=training))
            outputs.append(x)
        return self.concat(outputs)


class GhostNet(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.stem = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)
        self.ghosts = []
        for filters in (12, 12, 16):
            self.ghosts.append(GhostModule(filters))
        self.head = layers.Dense(4)

    def call(self, x, training=False):
        x = self.stem(x)
        for number, ghost in enumerate(self.ghosts):
            y = ghost(x, training=training)
            x = x + y if number == 1 else y
        return self.head(ops.mean(x, axis=(1, 2)))


def build_ghostnet():
    model = GhostNet()
    model(np.zeros((1, 8, 8, 3), "float32"))
    return model


def pixel_shuffle(x, factor):
    batch = ops.shape(x)[0]
    _, height, width, channels = x.shape
    out = channels // factor**2
    x = ops.reshape(x, (batch, height, width, factor, factor, out))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (batch, height * factor, width * factor, out))


class SuperResolution(keras.Model):
    def __init__(self, upscale_factor=2, channels=1):
        super().__init__()
        arguments = {"activation": "relu", "padding": "same"}
        self.factor = upscale_factor
        self.convolutions = [
            layers.Conv2D(12, 5, **arguments),
            layers.Conv2D(12, 3, **arguments),
            layers.Conv2D(8, 3, **arguments),
        ]
        self.last = layers.Conv2D(channels * upscale_factor**2, 3, padding="same")
        self.widen = layers.Conv2D(12, 3, padding="same")
        self.refine = layers.Conv2D(channels, 3, padding="same")

    def call(self, inputs):
        x = inputs
        for convolution in self.convolutions:
            x = convolution(x)
        coarse = pixel_shuffle(self.last(x), self.factor)
        fine = ops.nn.leaky_relu(pixel_shuffle(self.widen(x), self.factor))
        return ops.clip(coarse + self.refine(fine), -2.0, 2.0)


def build_super_resolution():
    model = SuperResolution()
    model(np.zeros((1, 8, 8, 1), "float32"))
    return model


class ConvolutionBlock(layers.Layer):
    def __init__(self, filters, kernel_size=3, dilation_rate=1, **kwargs):
        super().__init__(**kwargs)
        self.convolution = layers.Conv2D(
            filters, kernel_size, dilation_rate=dilation_rate, padding="same", use_bias=False
        )
        self.batch_norm = layers.BatchNormalization()

    def call(self, x, training=None):
        return ops.nn.relu(self.batch_norm(self.convolution(x), training=training))


class SpatialPyramidPooling(layers.Layer):
    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.pooled = ConvolutionBlock(filters, 1)
        self.dilated = [ConvolutionBlock(filters, 1 if r == 1 else 3, r) for r in (1, 2, 3)]
        self.merge = ConvolutionBlock(filters, 1)

    def call(self, x, training=None):
        _, height, width, _ = x.shape
        pooled = layers.AveragePooling2D((height, width))(x)
        pooled = self.pooled(pooled, training=training)
        pooled = layers.UpSampling2D((height, width), interpolation="bilinear")(pooled)
        outputs = [pooled] + [block(x, training=training) for block in self.dilated]
        return self.merge(ops.concatenate(outputs, axis=-1), training=training)


def build_deeplab():
    inputs = keras.Input((16, 16, 3))
    low = ConvolutionBlock(8, name="low")(inputs)
    x = layers.MaxPooling2D()(ConvolutionBlock(10)(low))
    x = SpatialPyramidPooling(8)(layers.MaxPooling2D()(x))
    x = layers.UpSampling2D(4, interpolation="bilinear")(x)
    x = layers.Concatenate()([x, ConvolutionBlock(6, 1)(low)])
    x = ConvolutionBlock(8)(x)
    return keras.Model(inputs, layers.Conv2D(3, 1, padding="same")(x), name="deeplab")


class SqueezeExcite(layers.Layer):
    def __init__(self, ratio=4, **kwargs):
        super().__init__(**kwargs)
        self.ratio = ratio

    def build(self, input_shape):
        channels = input_shape[-1]
        self.squeeze = layers.Dense(max(2, channels // self.ratio), activation="relu")
        self.excite = layers.Dense(channels, activation="sigmoid")

    def call(self, x):
        weights = self.excite(self.squeeze(ops.mean(x, axis=[1, 2])))
        return x * weights[:, None, None, :]


class SqueezeExciteNet(keras.Model):
    def __init__(self, widths=(8, 12, 12)):
        super().__init__()
        self.stages = [
            keras.Sequential([ConvolutionBlock(width), SqueezeExcite()]) for width in widths
        ]
        self.pools = [layers.MaxPooling2D(2) for _ in widths[:-1]]
        self.scale = self.add_weight(shape=(widths[-1],), initializer="ones", name="layer_scale")
        self.head = layers.Dense(4)

    def call(self, x, training=None):
        for stage, pool in zip(self.stages[:-1], self.pools, strict=True):
            x = pool(stage(x, training=training))
        x = x + self.scale * self.stages[-1](x, training=training)
        return self.head(layers.GlobalAveragePooling2D()(x))


def build_squeeze_excite():
    model = SqueezeExciteNet()
    model(np.zeros((1, 8, 8, 3), "float32"))
    return model


class ChannelAttention(layers.Layer):
    """Channels that attend to places, with the channel axis in the middle."""

    def __init__(self, hidden, **kwargs):
        super().__init__(**kwargs)
        self.hidden = hidden

    def build(self, input_shape):
        self.places = input_shape[1] * input_shape[2]
        self.theta, self.phi, self.value = (layers.Conv2D(self.hidden, 1) for _ in range(3))
        self.norm = layers.BatchNormalization(axis=1)
        self.out = layers.Conv2D(input_shape[-1], 1)

    def flat(self, x):
        return ops.reshape(ops.transpose(x, (0, 3, 1, 2)), (-1, self.hidden, self.places))

    def call(self, x, training=None):
        theta, phi, value = (
            self.flat(self.theta(x)),
            self.flat(self.phi(x)),
            self.flat(self.value(x)),
        )
        value = self.norm(value, training=training)
        weights = ops.softmax(ops.einsum("bcn,bcm->bnm", theta, phi))
        y = ops.einsum("bcm,bnm->bcn", value, weights)
        y = ops.reshape(y, (-1, self.hidden, x.shape[1], x.shape[2]))
        return x + self.out(ops.transpose(y, (0, 2, 3, 1)))


def build_non_local():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(inputs)
    x = ChannelAttention(6)(x)
    x = layers.Conv2D(8, 3, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(4)(layers.GlobalMaxPooling2D()(x)), name="non_local")


class FeaturePyramid(layers.Layer):
    def __init__(self, width, levels, **kwargs):
        super().__init__(**kwargs)
        self.lateral = {name: layers.Conv2D(width, 1) for name in levels}
        self.smooth = {name: layers.Conv2D(width, 3, padding="same") for name in levels}
        self.upsample = layers.UpSampling2D(2)

    def call(self, features):
        merged, above = {}, None
        for name in sorted(features, reverse=True):
            x = self.lateral[name](features[name])
            above = x if above is None else x + self.upsample(above)
            merged[name] = self.smooth[name](above)
        return merged


class Detector(keras.Model):
    """Boxes and classes at each level, as a dict, by heads that all levels share."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        frame = keras.Input((16, 16, 3))
        c2 = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(frame)
        c3 = layers.Conv2D(10, 3, strides=2, padding="same", activation="relu")(c2)
        c4 = layers.Conv2D(12, 3, strides=2, padding="same", activation="relu")(c3)
        self.backbone = keras.Model(frame, {"c2": c2, "c3": c3, "c4": c4})
        self.pyramid = FeaturePyramid(8, ["c2", "c3", "c4"])
        self.class_head = self.head(3)
        self.box_head = self.head(4)

    def head(self, outputs):
        return keras.Sequential(
            [
                layers.Conv2D(8, 3, padding="same", activation="relu"),
                layers.Conv2D(outputs, 3, padding="same"),
            ]
        )

    def call(self, images, training=False):
        features = self.pyramid(self.backbone(images, training=training))
        classes, boxes = [], []
        batch = ops.shape(images)[0]
        for x in features.values():
            classes.append(ops.reshape(self.class_head(x), (batch, -1, 3)))
            boxes.append(ops.reshape(self.box_head(x), (batch, -1, 4)))
        return {
            "classes": ops.concatenate(classes, axis=1),
            "boxes": ops.concatenate(boxes, axis=1),
        }


def build_detector():
    model = Detector()
    model(np.zeros((1, 16, 16, 3), "float32"))
    return model


def build_captcha_reader():
    inputs = keras.Input((16, 8, 1))
    x = layers.Conv2D(8, 3, activation="relu", padding="same", name="conv1")(inputs)
    x = layers.MaxPooling2D((2, 2))(x)
    x = layers.Conv2D(6, 3, activation="relu", padding="same", name="conv2")(x)
    x = layers.MaxPooling2D((2, 2))(x)
    x = layers.Reshape(target_shape=(4, 2 * 6))(x)
    x = layers.Dropout(0.2)(layers.Dense(12, activation="relu")(x))
    x = layers.Bidirectional(layers.LSTM(8, return_sequences=True, dropout=0.1))(x)
    return keras.Model(inputs, layers.Dense(5, activation="softmax")(x), name="captcha_reader")
