"""Networks on text, speech and time series, written as tutorials on sequences write them."""

import keras
import numpy as np
from keras import layers, ops

TOKENS, LENGTH = 20, 8


class TokenAndPositionEmbedding(layers.Layer):
    def __init__(self, length, tokens, width, **kwargs):
        super().__init__(**kwargs)
        self.token_emb = layers.Embedding(input_dim=tokens, output_dim=width)
        self.pos_emb = layers.Embedding(input_dim=length, output_dim=width)

    def call(self, x):
        positions = ops.arange(start=0, stop=ops.shape(x)[-1], step=1)
        return self.token_emb(x) + self.pos_emb(positions)


class TransformerBlock(layers.Layer):
    def __init__(self, width, heads, hidden, rate=0.1, **kwargs):
        super().__init__(**kwargs)
        self.att = layers.MultiHeadAttention(num_heads=heads, key_dim=width)
        self.ffn = keras.Sequential([layers.Dense(hidden, activation="relu"), layers.Dense(width)])
        self.layernorm1 = layers.LayerNormalization(epsilon=1e-6)
        self.layernorm2 = layers.LayerNormalization(epsilon=1e-6)
        self.dropout1, self.dropout2 = layers.Dropout(rate), layers.Dropout(rate)

    def call(self, inputs, training=False):
        attended = self.dropout1(self.att(inputs, inputs), training=training)
        out1 = self.layernorm1(inputs + attended)
        return self.layernorm2(out1 + self.dropout2(self.ffn(out1), training=training))


def build_text_transformer():
    inputs = keras.Input((LENGTH,), dtype="int32")
    x = TokenAndPositionEmbedding(LENGTH, TOKENS, 8)(inputs)
    x = TransformerBlock(8, 2, 16)(x)
    x = layers.Dropout(0.1)(layers.GlobalAveragePooling1D()(x))
    x = layers.Dropout(0.1)(layers.Dense(12, activation="relu")(x))
    return keras.Model(inputs, layers.Dense(4)(x), name="text_transformer")


def causal_mask(batch, n_dest, n_src, dtype):
    i, j = ops.arange(n_dest)[:, None], ops.arange(n_src)
    mask = ops.reshape(ops.cast(i >= j - n_src + n_dest, dtype), [1, n_dest, n_src])
    return ops.tile(mask, (batch, 1, 1))


class CausalBlock(layers.Layer):
    def __init__(self, width, heads, hidden, **kwargs):
        super().__init__(**kwargs)
        self.att = layers.MultiHeadAttention(heads, width)
        self.ffn = keras.Sequential([layers.Dense(hidden, activation="relu"), layers.Dense(width)])
        self.norms = [layers.LayerNormalization(), layers.LayerNormalization()]
        self.dropouts = [layers.Dropout(0.1), layers.Dropout(0.1)]

    def call(self, inputs):
        length = ops.shape(inputs)[1]
        mask = ops.tril(ops.ones((length, length), dtype="bool"))[None]
        attended = self.dropouts[0](self.att(inputs, inputs, attention_mask=mask))
        out = self.norms[0](inputs + attended)
        return self.norms[1](out + self.dropouts[1](self.ffn(out)))


def build_mini_gpt():
    inputs = keras.Input((LENGTH,), dtype="int32")
    x = TokenAndPositionEmbedding(LENGTH, TOKENS, 8)(inputs)
    for _ in range(2):
        x = CausalBlock(8, 2, 12)(x)
    return keras.Model(inputs, [layers.Dense(TOKENS)(x), x], name="mini_gpt")


class MaskedBlock(layers.Layer):
    """A causal mask as wide as the batch, which is made of the batch size."""

    def __init__(self, width, **kwargs):
        super().__init__(**kwargs)
        self.att = layers.MultiHeadAttention(2, width)
        self.norm = layers.LayerNormalization()
        self.ffn = [layers.Dense(16, activation="gelu"), layers.Dense(width)]

    def call(self, x):
        batch, length = ops.shape(x)[0], x.shape[1]
        mask = causal_mask(batch, length, length, "bool")
        x = self.norm(x + self.att(x, x, attention_mask=mask))
        y = x
        for layer in self.ffn:
            y = layer(y)
        return x + y


def build_music_gpt():
    inputs = keras.Input((LENGTH,), dtype="int32")
    x = MaskedBlock(8)(TokenAndPositionEmbedding(LENGTH, TOKENS, 8)(inputs))
    return keras.Model(inputs, layers.Dense(TOKENS)(x), name="music_gpt")


class FourierLayer(layers.Layer):
    """Mixes by the real part of a discrete Fourier transform, as products with matrices."""

    def build(self, input_shape):
        _, length, width = input_shape
        self.waves = [self.matrices(length), self.matrices(width)]

    def matrices(self, size):
        angles = 2 * np.pi * np.outer(np.arange(size), np.arange(size)) / size
        return np.cos(angles).astype("float32"), np.sin(angles).astype("float32")

    def call(self, x):
        (cos_t, sin_t), (cos_c, sin_c) = self.waves
        real = ops.einsum("ts,bsc->btc", cos_t, x) @ cos_c
        return real - ops.einsum("ts,bsc->btc", sin_t, x) @ sin_c


class FNetEncoder(layers.Layer):
    def __init__(self, width, hidden, **kwargs):
        super().__init__(**kwargs)
        self.fourier = FourierLayer()
        self.dense_proj = keras.Sequential(
            [layers.Dense(hidden, activation="relu"), layers.Dense(width)]
        )
        self.layernorm_1 = layers.LayerNormalization()
        self.layernorm_2 = layers.LayerNormalization()

    def call(self, inputs):
        proj_input = self.layernorm_1(inputs + self.fourier(inputs))
        return self.layernorm_2(proj_input + self.dense_proj(proj_input))


def build_fnet():
    inputs = keras.Input((LENGTH,), dtype="int64", name="tokens")
    x = TokenAndPositionEmbedding(LENGTH, TOKENS, 8)(inputs)
    x = FNetEncoder(8, 16)(FNetEncoder(8, 12)(x))
    x = layers.Dense(12, activation="gelu")(layers.GlobalMaxPooling1D()(x))
    return keras.Model(inputs, layers.Dense(4)(x), name="fnet")


class RMSNorm(layers.Layer):
    def __init__(self, epsilon=1e-6, **kwargs):
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, input_shape):
        self.scale = self.add_weight(shape=(input_shape[-1],), initializer="ones", name="scale")

    def call(self, x):
        return x * ops.rsqrt(ops.mean(x**2, axis=-1, keepdims=True) + self.epsilon) * self.scale


class RotaryAttention(layers.Layer):
    """Causal attention of several query heads for one head of keys and values."""

    def __init__(self, width, heads, **kwargs):
        super().__init__(**kwargs)
        self.heads, self.head_dim = heads, width // heads
        self.q = layers.Dense(width, use_bias=False)
        self.k = layers.Dense(self.head_dim, use_bias=False)
        self.v = layers.Dense(self.head_dim, use_bias=False)
        self.o = layers.Dense(width, use_bias=False)

    def rotated(self, x):
        half = self.head_dim // 2
        angles = ops.arange(x.shape[1], dtype="float32")[:, None] / (
            100.0 ** (ops.arange(half, dtype="float32") / half)
        )
        cos, sin = ops.cos(angles)[None, :, None, :], ops.sin(angles)[None, :, None, :]
        a, b = x[..., :half], x[..., half:]
        return ops.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)

    def call(self, x):
        batch, length = ops.shape(x)[0], ops.shape(x)[1]
        q = self.rotated(ops.reshape(self.q(x), (batch, length, self.heads, self.head_dim)))
        k = self.rotated(ops.expand_dims(self.k(x), axis=2))
        v = ops.expand_dims(self.v(x), axis=2)
        k, v = ops.repeat(k, self.heads, axis=2), ops.repeat(v, self.heads, axis=2)
        scores = ops.einsum("bthd,bshd->bhts", q, k) / self.head_dim**0.5
        scores = ops.where(ops.tri(length, dtype="bool"), scores, -1e9)
        y = ops.einsum("bhts,bshd->bthd", ops.softmax(scores), v)
        return self.o(ops.reshape(y, (batch, length, self.heads * self.head_dim)))


class SwiGLU(layers.Layer):
    def __init__(self, hidden, **kwargs):
        super().__init__(**kwargs)
        self.hidden = hidden

    def build(self, input_shape):
        self.w = {name: layers.Dense(self.hidden, use_bias=False) for name in ("gate", "up")}
        self.down = layers.Dense(input_shape[-1], use_bias=False)

    def call(self, x):
        return self.down(ops.silu(self.w["gate"](x)) * self.w["up"](x))


class LlamaLike(keras.Model):
    def __init__(self, width=8, depth=2):
        super().__init__()
        self.embedding = layers.Embedding(TOKENS, width)
        self.blocks = [
            (RMSNorm(), RotaryAttention(width, 2), RMSNorm(), SwiGLU(14)) for _ in range(depth)
        ]
        self.norm = RMSNorm()

    def call(self, tokens):
        x = self.embedding(tokens)
        for norm1, attention, norm2, feed_forward in self.blocks:
            x = x + attention(norm1(x))
            x = x + feed_forward(norm2(x))
        return self.norm(x) @ ops.transpose(self.embedding.embeddings)  # tied weights


def build_llama_like():
    model = LlamaLike()
    model(np.zeros((1, LENGTH), "int32"))
    return model


def build_lstm_translator():
    encoder_inputs = keras.Input((None, 10))
    encoder = layers.LSTM(12, return_state=True)
    _, state_h, state_c = encoder(encoder_inputs)
    decoder_inputs = keras.Input((None, 12))
    decoder_lstm = layers.LSTM(12, return_sequences=True, return_state=True)
    outputs, _, _ = decoder_lstm(decoder_inputs, initial_state=[state_h, state_c])
    outputs = layers.Dense(12, activation="softmax")(layers.Dense(10, activation="relu")(outputs))
    return keras.Model([encoder_inputs, decoder_inputs], outputs, name="lstm_translator")


class AdditiveAttention(layers.Layer):
    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.w1, self.w2 = layers.Dense(units), layers.Dense(units)
        self.v = layers.Dense(1)

    def call(self, query, values):
        query = ops.expand_dims(query, 2)
        values_wide = ops.expand_dims(values, 1)
        score = self.v(ops.tanh(self.w1(query) + self.w2(values_wide)))
        weights = ops.softmax(score, axis=2)
        return ops.sum(weights * values_wide, axis=2)


class GRUTranslator(keras.Model):
    def __init__(self, width=8, units=10):
        super().__init__()
        self.embeddings = {
            "source": layers.Embedding(TOKENS, width),
            "target": layers.Embedding(TOKENS, width),
        }
        self.encoder = layers.Bidirectional(
            layers.GRU(units, return_sequences=True, return_state=True), merge_mode="sum"
        )
        self.decoder = layers.GRU(units, return_sequences=True)
        self.attention = AdditiveAttention(12)
        self.fc = keras.Sequential([layers.Dense(14, activation="relu"), layers.Dense(TOKENS)])

    def call(self, inputs):
        encoded, forward, backward = self.encoder(self.embeddings["source"](inputs["source"]))
        decoded = self.decoder(
            self.embeddings["target"](inputs["target"]), initial_state=forward + backward
        )
        context = self.attention(decoded, encoded)
        return self.fc(ops.concatenate([decoded, context], axis=-1))


def build_gru_translator():
    model = GRUTranslator()
    tokens = np.zeros((1, LENGTH), "int32")
    model({"source": tokens, "target": tokens})
    return model


class PositionalEmbedding(layers.Layer):
    """Token embeddings, scaled, with sine waves added; passes on which tokens are padding."""

    def __init__(self, tokens, width, **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.token_embeddings = layers.Embedding(tokens, width)
        rates = 1 / 100 ** (np.arange(width // 2) / (width // 2))
        angles = np.arange(32)[:, None] * rates
        self.waves = np.concatenate([np.sin(angles), np.cos(angles)], axis=-1).astype("float32")

    def call(self, inputs):
        length = inputs.shape[1]
        x = self.token_embeddings(inputs) * ops.sqrt(ops.cast(self.width, "float32"))
        return x + self.waves[None, :length, :]

    def compute_mask(self, inputs, mask=None):
        return ops.not_equal(inputs, 0)


class TransformerEncoder(layers.Layer):
    def __init__(self, width, hidden, heads, **kwargs):
        super().__init__(**kwargs)
        self.attention = layers.MultiHeadAttention(num_heads=heads, key_dim=width)
        self.dense_proj = keras.Sequential(
            [layers.Dense(hidden, activation="relu"), layers.Dense(width)]
        )
        self.layernorm_1, self.layernorm_2 = (layers.LayerNormalization() for _ in range(2))
        self.supports_masking = True

    def call(self, inputs, mask=None):
        padding_mask = None if mask is None else ops.cast(mask[:, None, :], dtype="int32")
        attended = self.attention(
            query=inputs, value=inputs, key=inputs, attention_mask=padding_mask
        )
        proj_input = self.layernorm_1(inputs + attended)
        return self.layernorm_2(proj_input + self.dense_proj(proj_input))


class TransformerDecoder(layers.Layer):
    def __init__(self, width, hidden, heads, **kwargs):
        super().__init__(**kwargs)
        self.attention_1 = layers.MultiHeadAttention(num_heads=heads, key_dim=width)
        self.attention_2 = layers.MultiHeadAttention(num_heads=heads, key_dim=width)
        self.dense_proj = keras.Sequential(
            [layers.Dense(hidden, activation="relu"), layers.Dense(width)]
        )
        self.norms = [layers.LayerNormalization() for _ in range(3)]
        self.add = layers.Add()
        self.supports_masking = True

    def call(self, inputs, mask=None):
        inputs, encoded = inputs
        source_mask = None if mask is None or mask[1] is None else mask[1][:, None, :]
        x = self.attention_1(inputs, inputs, use_causal_mask=True)
        out_1 = self.norms[0](self.add([inputs, x]))
        x = self.attention_2(query=out_1, value=encoded, attention_mask=source_mask)
        out_2 = self.norms[1](self.add([out_1, x]))
        return self.norms[2](self.add([out_2, self.dense_proj(out_2)]))


def build_transformer_translator():
    source = keras.Input((LENGTH,), dtype="int32", name="source")
    target = keras.Input((LENGTH,), dtype="int32", name="target")
    encoded = TransformerEncoder(8, 14, 2)(PositionalEmbedding(TOKENS, 8)(source))
    x = TransformerDecoder(8, 12, 2)([PositionalEmbedding(TOKENS, 8)(target), encoded])
    outputs = layers.Dense(TOKENS, activation="softmax")(layers.Dropout(0.5)(x))
    return keras.Model({"source": source, "target": target}, outputs, name="translator")


def build_lstm_tagger():
    inputs = keras.Input((LENGTH,), dtype="int32")
    x = layers.Embedding(TOKENS, 8, mask_zero=True)(inputs)
    x = layers.SpatialDropout1D(0.1)(x)
    x = layers.Bidirectional(layers.LSTM(8, return_sequences=True))(x)
    x = layers.TimeDistributed(layers.Dense(12, activation="relu"))(x)
    return keras.Model(inputs, layers.TimeDistributed(layers.Dense(5))(x), name="lstm_tagger")


class ResidualDilated(layers.Layer):
    """A gated, dilated, causal convolution; returns its residual and its skip."""

    def __init__(self, width, skip, dilation_rate, **kwargs):
        super().__init__(**kwargs)
        self.pad = 2 * dilation_rate
        self.filter_and_gate = layers.Conv1D(2 * width, 3, dilation_rate=dilation_rate)
        self.residual = layers.Conv1D(width, 1)
        self.skip = layers.Conv1D(skip, 1)

    def call(self, x):
        y = self.filter_and_gate(ops.pad(x, [[0, 0], [self.pad, 0], [0, 0]]))
        filtered, gate = ops.split(y, 2, axis=-1)
        y = ops.tanh(filtered) * ops.sigmoid(gate)
        return x + self.residual(y), self.skip(y)


class WaveNet(keras.Model):
    def __init__(self, width=8, dilations=(1, 2, 4), **kwargs):
        super().__init__(**kwargs)
        self.first = layers.Conv1D(width, 2, padding="causal")
        self.residuals = [ResidualDilated(width, 10, rate) for rate in dilations]
        self.last = [layers.Conv1D(12, 1, activation="relu"), layers.Conv1D(6, 1)]

    def call(self, x):
        x = self.first(x)
        skips = 0.0
        for residual in self.residuals:
            x, skip = residual(x)
            skips = skips + skip
        y = ops.relu(skips)
        for convolution in self.last:
            y = convolution(y)
        return y


def build_wavenet():
    model = WaveNet()
    model(ops.zeros((1, 16, 2)))
    return model


def build_speech():
    spectrogram = keras.Input((16, 8), name="spectrogram")
    x = layers.Reshape((16, 8, 1), name="expand_dim")(spectrogram)
    for filters in (6, 8):
        x = layers.Conv2D(filters, 3, strides=(1, 2), padding="same", use_bias=False)(x)
        x = layers.BatchNormalization()(x)
        x = layers.ReLU()(x)
    x = layers.Reshape((-1, x.shape[-2] * x.shape[-1]))(x)
    for _ in range(2):
        recurrent = layers.GRU(6, return_sequences=True, reset_after=True)
        x = layers.Bidirectional(recurrent, merge_mode="concat")(x)
        x = layers.Dropout(rate=0.2)(x)
    x = layers.ReLU()(layers.Dense(units=12)(x))
    return keras.Model(spectrogram, layers.Dense(7, activation="softmax")(x), name="speech")


def build_timeseries_transformer():
    inputs = keras.Input((16, 1))
    x = layers.Conv1D(8, 3, strides=2, padding="same")(inputs)
    for _ in range(2):
        y = layers.MultiHeadAttention(key_dim=4, num_heads=2, dropout=0.1)(x, x)
        y = layers.LayerNormalization(epsilon=1e-6)(layers.Dropout(0.1)(y))
        res = y + x
        y = layers.Conv1D(filters=12, kernel_size=1, activation="relu")(res)
        y = layers.Conv1D(filters=8, kernel_size=1)(layers.Dropout(0.1)(y))
        x = layers.LayerNormalization(epsilon=1e-6)(y) + res
    x = layers.GlobalAveragePooling1D(data_format="channels_first")(x)
    x = layers.Dense(12, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(4, activation="softmax")(x), name="timeseries")


class TextCNN(keras.Model):
    def __init__(self, sizes=(2, 3, 4), **kwargs):
        super().__init__(**kwargs)
        self.embedding = layers.Embedding(TOKENS, 8)
        self.convs = {f"conv_{n}": layers.Conv1D(10, n, activation="relu") for n in sizes}
        self.dropout = layers.Dropout(0.3)
        self.classifier = layers.Dense(4)

    def call(self, tokens, training=None):
        x = self.embedding(tokens)
        pooled = [ops.max(conv(x), axis=1) for conv in self.convs.values()]
        return self.classifier(self.dropout(ops.concatenate(pooled, -1), training=training))


def build_text_cnn():
    model = TextCNN()
    model(ops.zeros((1, LENGTH), "int32"))
    return model
