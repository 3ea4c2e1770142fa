"""Networks with a training of their own, and others that make images: as tutorials write them.

The steps that need two gradients are TensorFlow's (`uses_tape`); others override `compute_loss`.
"""

import keras
import numpy as np
from keras import layers, ops

LATENT = 6


def examples(shape, count=8, seed=0):
    return np.random.default_rng(seed).normal(size=(count, *shape)).astype("float32")


def gradient_tape():
    import tensorflow as tf

    return tf.GradientTape()


def trained(model, *data, callbacks):
    return model.fit(*data, epochs=2, batch_size=8, callbacks=callbacks, verbose=0)


# Adversaries


def make_discriminator():
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(8, 3, strides=2, padding="same"),
            layers.LeakyReLU(negative_slope=0.2),
            layers.Conv2D(12, 3, strides=2, padding="same"),
            layers.LeakyReLU(negative_slope=0.2),
            layers.GlobalMaxPooling2D(),
            layers.Dense(1),
        ],
        name="discriminator",
    )


def make_generator():
    return keras.Sequential(
        [
            keras.Input((LATENT,)),
            layers.Dense(2 * 2 * 12),
            layers.LeakyReLU(negative_slope=0.2),
            layers.Reshape((2, 2, 12)),
            layers.Conv2DTranspose(10, 4, strides=2, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.LeakyReLU(negative_slope=0.2),
            layers.Conv2DTranspose(8, 4, strides=2, padding="same"),
            layers.LeakyReLU(negative_slope=0.2),
            layers.Conv2D(1, 5, padding="same", activation="sigmoid"),
        ],
        name="generator",
    )


class GAN(keras.Model):
    def __init__(self, discriminator, generator, latent_dim):
        super().__init__()
        self.discriminator, self.generator = discriminator, generator
        self.latent_dim = latent_dim
        self.seed_generator = keras.random.SeedGenerator(1337)

    def compile(self, d_optimizer, g_optimizer, loss_fn, **kwargs):
        super().compile(**kwargs)
        self.d_optimizer, self.g_optimizer, self.loss_fn = d_optimizer, g_optimizer, loss_fn
        self.d_loss_metric = keras.metrics.Mean(name="d_loss")
        self.g_loss_metric = keras.metrics.Mean(name="g_loss")

    @property
    def metrics(self):
        return [self.d_loss_metric, self.g_loss_metric]

    def random_latent(self, count):
        return keras.random.normal((count, self.latent_dim), seed=self.seed_generator)

    def train_step(self, real_images):
        batch_size = ops.shape(real_images)[0]
        generated = self.generator(self.random_latent(batch_size))
        combined = ops.concatenate([generated, real_images], axis=0)
        labels = ops.concatenate([ops.ones((batch_size, 1)), ops.zeros((batch_size, 1))], axis=0)
        with gradient_tape() as tape:
            d_loss = self.loss_fn(labels, self.discriminator(combined))
        weights = self.discriminator.trainable_weights
        self.d_optimizer.apply_gradients(zip(tape.gradient(d_loss, weights), weights, strict=True))
        misleading = ops.zeros((batch_size, 1))
        with gradient_tape() as tape:
            predictions = self.discriminator(self.generator(self.random_latent(batch_size)))
            g_loss = self.loss_fn(misleading, predictions)
        weights = self.generator.trainable_weights
        self.g_optimizer.apply_gradients(zip(tape.gradient(g_loss, weights), weights, strict=True))
        self.d_loss_metric.update_state(d_loss)
        self.g_loss_metric.update_state(g_loss)
        return {m.name: m.result() for m in self.metrics}


def build_gan():
    return GAN(make_discriminator(), make_generator(), LATENT)


def fit_gan(model, callbacks, **kwargs):
    model.compile(
        d_optimizer=keras.optimizers.Adam(3e-4),
        g_optimizer=keras.optimizers.Adam(3e-4),
        loss_fn=keras.losses.BinaryCrossentropy(from_logits=True),
        **kwargs,
    )
    return trained(model, examples((8, 8, 1)), callbacks=callbacks)


class UpsampleBlock(layers.Layer):
    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.up = layers.UpSampling2D(2)
        self.conv = layers.Conv2D(filters, 3, padding="same", use_bias=False)
        self.norm = layers.BatchNormalization()

    def call(self, x, training=False):
        return ops.leaky_relu(self.norm(self.conv(self.up(x)), training=training), 0.2)


class Generator(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(2 * 2 * 10, use_bias=False)
        self.norm = layers.BatchNormalization()
        self.blocks = [UpsampleBlock(12), UpsampleBlock(8)]
        self.to_image = layers.Conv2D(1, 3, padding="same", activation="tanh")

    def call(self, noise, training=False):
        x = ops.leaky_relu(self.norm(self.dense(noise), training=training), 0.2)
        x = ops.reshape(x, (ops.shape(noise)[0], 2, 2, 10))
        for block in self.blocks:
            x = block(x, training=training)
        return self.to_image(x)


class WGAN(keras.Model):
    """Wasserstein loss with a gradient penalty, on a critic with a last layer of images."""

    def __init__(self, discriminator, generator, latent_dim, discriminator_extra_steps=2):
        super().__init__()
        self.discriminator, self.generator = discriminator, generator
        self.latent_dim, self.d_steps, self.gp_weight = latent_dim, discriminator_extra_steps, 10.0

    def compile(self, d_optimizer, g_optimizer, **kwargs):
        super().compile(**kwargs)
        self.d_optimizer, self.g_optimizer = d_optimizer, g_optimizer

    def gradient_penalty(self, batch_size, real, fake):
        alpha = keras.random.uniform((batch_size, 1, 1, 1), 0.0, 1.0)
        interpolated = real + alpha * (fake - real)
        with gradient_tape() as gp_tape:
            gp_tape.watch(interpolated)
            pred = self.discriminator(interpolated, training=True)
        gradients = gp_tape.gradient(pred, [interpolated])[0]
        norm = ops.sqrt(ops.sum(ops.square(gradients), axis=[1, 2, 3]) + 1e-12)
        return ops.mean((norm - 1.0) ** 2)

    def train_step(self, real_images):
        batch_size = ops.shape(real_images)[0]
        for _ in range(self.d_steps):
            noise = keras.random.normal((batch_size, self.latent_dim))
            with gradient_tape() as tape:
                fake = self.generator(noise, training=True)
                d_loss = ops.mean(self.discriminator(fake, training=True))
                d_loss = d_loss - ops.mean(self.discriminator(real_images, training=True))
                gp = self.gradient_penalty(batch_size, real_images, fake)
                d_loss = d_loss + self.gp_weight * gp
            self.apply(tape, d_loss, self.discriminator, self.d_optimizer)
        noise = keras.random.normal((batch_size, self.latent_dim))
        with gradient_tape() as tape:
            logits = self.discriminator(self.generator(noise, training=True), training=True)
            g_loss = -ops.mean(logits)
        self.apply(tape, g_loss, self.generator, self.g_optimizer)
        return {"d_loss": d_loss, "g_loss": g_loss}

    def apply(self, tape, loss, network, optimizer):
        weights = network.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))


def build_wgan():
    generator = Generator()
    generator(np.zeros((1, LATENT), "float32"))
    return WGAN(make_discriminator(), generator, LATENT)


def fit_wgan(model, callbacks, **kwargs):
    model.compile(keras.optimizers.Adam(2e-4, 0.5), keras.optimizers.Adam(2e-4, 0.5), **kwargs)
    return trained(model, examples((8, 8, 1)), callbacks=callbacks)


# Autoencoders


class Sampling(layers.Layer):
    """Draws z from its mean and the logarithm of its variance."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seed_generator = keras.random.SeedGenerator(1337)

    def call(self, inputs):
        z_mean, z_log_var = inputs
        batch, dim = ops.shape(z_mean)[0], ops.shape(z_mean)[1]
        epsilon = keras.random.normal(shape=(batch, dim), seed=self.seed_generator)
        return z_mean + ops.exp(0.5 * z_log_var) * epsilon


class VAE(keras.Model):
    """A step of its own, around an encoder and a decoder that are built functionally."""

    def __init__(self, encoder, decoder, **kwargs):
        super().__init__(**kwargs)
        self.encoder, self.decoder = encoder, decoder
        self.trackers = {
            name: keras.metrics.Mean(name=name) for name in ("loss", "reconstruction", "kl")
        }

    @property
    def metrics(self):
        return list(self.trackers.values())

    def train_step(self, data):
        with gradient_tape() as tape:
            z_mean, z_log_var, z = self.encoder(data)
            difference = ops.sum(ops.square(data - self.decoder(z)), axis=(1, 2))
            reconstruction_loss = ops.mean(difference)
            kl = -0.5 * (1 + z_log_var - ops.square(z_mean) - ops.exp(z_log_var))
            kl_loss = ops.mean(ops.sum(kl, axis=1))
            total_loss = reconstruction_loss + kl_loss
        grads = tape.gradient(total_loss, self.trainable_weights)
        self.optimizer.apply_gradients(zip(grads, self.trainable_weights, strict=True))
        for name, value in zip(
            self.trackers, (total_loss, reconstruction_loss, kl_loss), strict=True
        ):
            self.trackers[name].update_state(value)
        return {m.name: m.result() for m in self.metrics}


def build_vae():
    images = keras.Input((8, 8, 1))
    x = layers.Conv2D(8, 3, activation="relu", strides=2, padding="same")(images)
    x = layers.Flatten()(layers.Conv2D(10, 3, activation="relu", strides=2, padding="same")(x))
    x = layers.Dense(12, activation="relu")(x)
    z_mean, z_log_var = (layers.Dense(2, name=n)(x) for n in ("z_mean", "z_log_var"))
    encoder = keras.Model(images, [z_mean, z_log_var, Sampling()([z_mean, z_log_var])])
    latent = keras.Input((2,))
    x = layers.Dense(2 * 2 * 12, activation="relu")(latent)
    x = layers.Reshape((2, 2, 12))(x)
    x = layers.Conv2DTranspose(10, 3, activation="relu", strides=2, padding="same")(x)
    x = layers.Conv2DTranspose(8, 3, activation="relu", strides=2, padding="same")(x)
    x = layers.Conv2DTranspose(1, 3, activation="sigmoid", padding="same")(x)
    return VAE(encoder, keras.Model(latent, x, name="decoder"))


def fit_vae(model, callbacks, **kwargs):
    model.compile(optimizer=keras.optimizers.Adam(), **kwargs)
    return trained(model, examples((8, 8, 1)), callbacks=callbacks)


class Encoder(layers.Layer):
    def __init__(self, latent=LATENT, hidden=14, **kwargs):
        super().__init__(**kwargs)
        self.dense_proj = layers.Dense(hidden, activation="relu")
        self.dense_mean, self.dense_log_var = layers.Dense(latent), layers.Dense(latent)
        self.sampling = Sampling()

    def call(self, inputs):
        x = self.dense_proj(inputs)
        z_mean, z_log_var = self.dense_mean(x), self.dense_log_var(x)
        return z_mean, z_log_var, self.sampling((z_mean, z_log_var))


class VariationalAutoEncoder(keras.Model):
    """Adds the divergence as a loss in `call`."""

    def __init__(self, original=10, **kwargs):
        super().__init__(**kwargs)
        self.encoder = Encoder()
        self.decoder = keras.Sequential([layers.Dense(14, activation="relu")])
        self.to_output = layers.Dense(original)

    def call(self, inputs):
        z_mean, z_log_var, z = self.encoder(inputs)
        reconstructed = self.to_output(self.decoder(z))
        kl = -0.5 * ops.mean(z_log_var - ops.square(z_mean) - ops.exp(z_log_var) + 1)
        self.add_loss(kl)
        return reconstructed


def build_vae_with_add_loss():
    model = VariationalAutoEncoder()
    model(np.zeros((2, 10), "float32"))
    return model


class VectorQuantizer(layers.Layer):
    def __init__(self, count, width, beta=0.25, **kwargs):
        super().__init__(**kwargs)
        self.count, self.width, self.beta = count, width, beta
        self.embeddings = self.add_weight(
            shape=(width, count), initializer="random_uniform", name="embeddings"
        )

    def call(self, x):
        shape = ops.shape(x)
        flat = ops.reshape(x, [-1, self.width])
        indices = self.code_indices(flat)
        encodings = ops.one_hot(indices, self.count)
        quantized = ops.matmul(encodings, ops.transpose(self.embeddings))
        quantized = ops.reshape(quantized, shape)
        commitment = ops.mean((ops.stop_gradient(quantized) - x) ** 2)
        codebook = ops.mean((quantized - ops.stop_gradient(x)) ** 2)
        self.add_loss(self.beta * commitment + codebook)
        return x + ops.stop_gradient(quantized - x)

    def code_indices(self, flat):
        distances = (
            ops.sum(flat**2, axis=1, keepdims=True)
            + ops.sum(self.embeddings**2, axis=0)
            - 2 * ops.matmul(flat, self.embeddings)
        )
        return ops.argmin(distances, axis=1)


class VQVAETrainer(keras.Model):
    def __init__(self, vqvae, variance, **kwargs):
        super().__init__(**kwargs)
        self.vqvae, self.variance = vqvae, variance
        self.loss_tracker = keras.metrics.Mean(name="loss")

    @property
    def metrics(self):
        return [self.loss_tracker]

    def train_step(self, x):
        with gradient_tape() as tape:
            reconstructions = self.vqvae(x)
            loss = ops.mean((x - reconstructions) ** 2) / self.variance
            loss = loss + sum(self.vqvae.losses)
        weights = self.vqvae.trainable_variables
        grads = tape.gradient(loss, weights)
        self.optimizer.apply_gradients(zip(grads, weights, strict=True))
        self.loss_tracker.update_state(loss)
        return {"loss": self.loss_tracker.result()}


def build_vq_vae():
    images = keras.Input((8, 8, 1))
    x = layers.Conv2D(8, 3, activation="relu", strides=2, padding="same")(images)
    x = layers.Conv2D(12, 3, activation="relu", strides=2, padding="same")(x)
    encoder = keras.Model(images, layers.Conv2D(LATENT, 1, padding="same")(x), name="encoder")
    codes = keras.Input((2, 2, LATENT))
    x = layers.Conv2DTranspose(12, 3, activation="relu", strides=2, padding="same")(codes)
    x = layers.Conv2DTranspose(8, 3, activation="relu", strides=2, padding="same")(x)
    decoder = keras.Model(codes, layers.Conv2DTranspose(1, 3, padding="same")(x), name="decoder")
    inputs = keras.Input((8, 8, 1))
    quantized = VectorQuantizer(7, LATENT, name="vector_quantizer")(encoder(inputs))
    return VQVAETrainer(keras.Model(inputs, decoder(quantized), name="vq_vae"), variance=0.5)


def fit_vq_vae(model, callbacks, **kwargs):
    model.compile(optimizer=keras.optimizers.Adam(), **kwargs)
    return trained(model, examples((8, 8, 1)), callbacks=callbacks)


class DenoisingAutoencoder(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.noise = layers.GaussianNoise(0.1)
        self.encoder = keras.Sequential(
            [
                layers.Conv2D(10, 3, activation="relu", padding="same", strides=2),
                layers.Conv2D(8, 3, activation="relu", padding="same", strides=2),
            ]
        )
        self.decoder = keras.Sequential(
            [
                layers.Conv2DTranspose(8, 3, strides=2, activation="relu", padding="same"),
                layers.Conv2DTranspose(10, 3, strides=2, activation="relu", padding="same"),
                layers.Conv2D(1, 3, activation="sigmoid", padding="same"),
            ]
        )

    def call(self, x, training=None):
        return self.decoder(self.encoder(self.noise(x, training=training)))


def build_denoising_autoencoder():
    model = DenoisingAutoencoder()
    model(np.zeros((1, 8, 8, 1), "float32"))
    return model


class PixelConvLayer(layers.Layer):
    """A convolution that sees only the pixels before its own."""

    def __init__(self, mask_type, filters, kernel_size=3, **kwargs):
        super().__init__(**kwargs)
        self.mask_type, self.filters, self.kernel_size = mask_type, filters, kernel_size

    def build(self, input_shape):
        shape = (self.kernel_size, self.kernel_size, input_shape[-1], self.filters)
        self.kernel = self.add_weight(shape=shape, name="kernel")
        mask, middle = np.zeros(shape, "float32"), self.kernel_size // 2
        mask[:middle] = 1.0
        mask[middle, : middle + (self.mask_type == "B")] = 1.0
        self.mask = mask

    def call(self, inputs):
        return ops.conv(inputs, self.kernel * self.mask, padding="same")


class PixelResidual(layers.Layer):
    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.conv1 = layers.Conv2D(filters, 1, activation="relu")
        self.pixel_conv = PixelConvLayer("B", filters // 2)
        self.conv2 = layers.Conv2D(filters, 1, activation="relu")

    def call(self, inputs):
        x = ops.relu(self.pixel_conv(self.conv1(inputs)))
        return layers.add([inputs, self.conv2(x)])


def build_pixel_cnn():
    inputs = keras.Input((8, 8, 1))
    x = PixelConvLayer("A", 8)(inputs)
    x = PixelResidual(8)(layers.ReLU()(x))
    x = layers.Conv2D(10, 1, activation="relu")(x)
    return keras.Model(inputs, layers.Conv2D(1, 1, activation="sigmoid")(x), name="pixel_cnn")


# Flows and diffusion


class Coupling(layers.Layer):
    def __init__(self, width, hidden, mask, **kwargs):
        super().__init__(**kwargs)
        self.mask = np.asarray(mask, "float32")
        self.scale = [layers.Dense(hidden, activation="relu"), layers.Dense(width, "tanh")]
        self.shift = [layers.Dense(hidden, activation="relu"), layers.Dense(width)]

    def call(self, x):
        masked, reversed_mask = x * self.mask, 1 - self.mask
        s = self.scale[1](self.scale[0](masked)) * reversed_mask
        t = self.shift[1](self.shift[0](masked)) * reversed_mask
        return reversed_mask * (x * ops.exp(-s) - t) + masked, -ops.sum(s, axis=1)


class RealNVP(keras.Model):
    def __init__(self, couplings=4, width=2):
        super().__init__()
        masks = np.array([[0, 1], [1, 0]] * (couplings // 2))
        self.couplings = [Coupling(width, 12, mask) for mask in masks]

    def call(self, x):
        log_det = 0.0
        for coupling in self.couplings[::-1]:
            x, change = coupling(x)
            log_det += change
        return x, log_det

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        z, log_det = y_pred
        return -ops.mean(-0.5 * ops.sum(z**2, axis=-1) - np.log(2 * np.pi) + log_det)


def build_real_nvp():
    model = RealNVP()
    model(np.zeros((1, 2), "float32"))
    return model


def fit_real_nvp(model, callbacks, **kwargs):
    model.compile(optimizer=keras.optimizers.Adam(1e-4), **kwargs)
    return trained(model, examples((2,)), callbacks=callbacks)


class TimeEmbedding(layers.Layer):
    def __init__(self, width, **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.frequencies = np.exp(np.linspace(0.0, np.log(100.0), width // 2)).astype("float32")

    def call(self, variances):
        angles = 2.0 * np.pi * self.frequencies * variances
        return ops.concatenate([ops.sin(angles), ops.cos(angles)], axis=-1)


class ResidualBlock(layers.Layer):
    """Two convolutions, with what the time says added between them."""

    def __init__(self, width, **kwargs):
        super().__init__(**kwargs)
        self.width = width

    def build(self, input_shape):
        images, _ = input_shape
        self.project = None if images[-1] == self.width else layers.Conv2D(self.width, 1)
        self.norm = layers.BatchNormalization(center=False, scale=False)
        self.conv1 = layers.Conv2D(self.width, 3, padding="same", activation="swish")
        self.conv2 = layers.Conv2D(self.width, 3, padding="same")
        self.time = layers.Dense(self.width)

    def call(self, inputs, training=None):
        x, time = inputs
        residual = x if self.project is None else self.project(x)
        x = self.conv1(self.norm(x, training=training))
        x = x + self.time(time)[:, None, None, :]
        return self.conv2(x) + residual


def make_unet(widths=(6, 8), depth=1):
    noisy_images, variances = keras.Input((8, 8, 1)), keras.Input((1,))
    time = layers.Dense(8, activation="swish")(TimeEmbedding(8)(variances))
    x = layers.Conv2D(widths[0], 1)(noisy_images)
    skips = []
    for width in widths:
        for _ in range(depth):
            x = ResidualBlock(width)([x, time])
            skips.append(x)
        x = layers.AveragePooling2D(2)(x)
    x = ResidualBlock(10)([x, time])
    for width in reversed(widths):
        x = layers.UpSampling2D(2, interpolation="bilinear")(x)
        for _ in range(depth):
            x = ResidualBlock(width)([layers.Concatenate()([x, skips.pop()]), time])
    x = layers.Conv2D(1, 1, kernel_initializer="zeros")(x)
    return keras.Model([noisy_images, variances], x, name="residual_unet")


class DiffusionModel(keras.Model):
    def __init__(self, network):
        super().__init__()
        self.normalizer = layers.Normalization(mean=0.0, variance=1.0)
        self.network = network
        self.seed_generator = keras.random.SeedGenerator(1)

    def call(self, inputs, training=False):
        return self.network(inputs, training=training)

    def train_step(self, images):
        images = self.normalizer(images)
        batch = ops.shape(images)[0]
        noises = keras.random.normal(ops.shape(images), seed=self.seed_generator)
        times = keras.random.uniform((batch, 1, 1, 1), 0.0, 1.0, seed=self.seed_generator)
        signal_rates, noise_rates = ops.cos(times), ops.sin(times)
        noisy = signal_rates * images + noise_rates * noises
        with gradient_tape() as tape:
            predicted = self.network([noisy, noise_rates[:, :, 0, 0] ** 2], training=True)
            loss = ops.mean(ops.abs(noises - predicted))
        weights = self.network.trainable_weights
        grads = tape.gradient(loss, weights)
        self.optimizer.apply_gradients(zip(grads, weights, strict=True))
        return {"noise_loss": loss}


def build_diffusion():
    return DiffusionModel(make_unet())


def fit_diffusion(model, callbacks, **kwargs):
    model.compile(optimizer=keras.optimizers.AdamW(1e-3, weight_decay=1e-4), **kwargs)
    return trained(model, examples((8, 8, 1)), callbacks=callbacks)


# Representations


class SimSiam(keras.Model):
    def __init__(self, encoder, predictor):
        super().__init__()
        self.encoder, self.predictor = encoder, predictor
        self.loss_tracker = keras.metrics.Mean(name="loss")

    @property
    def metrics(self):
        return [self.loss_tracker]

    def compute_similarity(self, p, z):
        z = ops.stop_gradient(z)
        p, z = keras.utils.normalize(p, axis=1, order=2), keras.utils.normalize(z, axis=1, order=2)
        return -ops.mean(ops.sum(p * z, axis=1))

    def train_step(self, data):
        one, two = data, ops.flip(data, axis=2)
        with gradient_tape() as tape:
            z1, z2 = self.encoder(one, training=True), self.encoder(two, training=True)
            p1, p2 = self.predictor(z1, training=True), self.predictor(z2, training=True)
            loss = (self.compute_similarity(p1, z2) + self.compute_similarity(p2, z1)) / 2
        weights = self.encoder.trainable_variables + self.predictor.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        self.loss_tracker.update_state(loss)
        return {"loss": self.loss_tracker.result()}


class ResidualUnit(layers.Layer):
    def __init__(self, filters, strides=1, **kwargs):
        super().__init__(**kwargs)
        self.filters, self.strides = filters, strides

    def build(self, input_shape):
        self.main = [
            layers.Conv2D(self.filters, 3, strides=self.strides, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Conv2D(self.filters, 3, padding="same", use_bias=False),
            layers.BatchNormalization(),
        ]
        self.skip = []
        if self.strides > 1 or input_shape[-1] != self.filters:
            self.skip = [
                layers.Conv2D(self.filters, 1, strides=self.strides, use_bias=False),
                layers.BatchNormalization(),
            ]

    def call(self, inputs):
        z, shortcut = inputs, inputs
        for layer in self.main:
            z = layer(z)
        for layer in self.skip:
            shortcut = layer(shortcut)
        return ops.relu(z + shortcut)


def build_simsiam():
    inputs = keras.Input((8, 8, 3))
    x = layers.Rescaling(scale=1.0 / 2)(inputs)
    x = ResidualUnit(12, strides=2)(ResidualUnit(8)(x))
    x = layers.GlobalAveragePooling2D()(x)
    for _ in range(2):
        x = layers.Dense(10, use_bias=False, kernel_regularizer=keras.regularizers.l2(5e-4))(x)
        x = layers.BatchNormalization()(x)
    encoder = keras.Model(inputs, x, name="encoder")
    predictor = keras.Sequential(
        [
            keras.Input((10,)),
            layers.Dense(12, use_bias=False, activation="relu"),
            layers.BatchNormalization(),
            layers.Dense(10),
        ],
        name="predictor",
    )
    return SimSiam(encoder, predictor)


def fit_simsiam(model, callbacks, **kwargs):
    model.compile(optimizer=keras.optimizers.SGD(0.01, momentum=0.6), **kwargs)
    return trained(model, examples((8, 8, 3)), callbacks=callbacks)


def classifier(width, name):
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(width, 3, strides=2, padding="same"),
            layers.LeakyReLU(negative_slope=0.2),
            layers.MaxPooling2D(2, strides=1, padding="same"),
            layers.Conv2D(width * 2, 3, strides=2, padding="same"),
            layers.Flatten(),
            layers.Dense(4),
        ],
        name=name,
    )


class Distiller(keras.Model):
    def __init__(self, student, teacher):
        super().__init__()
        self.teacher, self.student = teacher, student

    def compile(self, student_loss_fn, distillation_loss_fn, alpha=0.1, temperature=3, **kwargs):
        super().compile(**kwargs)
        self.student_loss_fn = student_loss_fn
        self.distillation_loss_fn = distillation_loss_fn
        self.alpha, self.temperature = alpha, temperature

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        teacher_pred = self.teacher(x, training=False)
        student_loss = self.student_loss_fn(y, y_pred)
        distillation_loss = self.distillation_loss_fn(
            ops.softmax(teacher_pred / self.temperature, axis=1),
            ops.softmax(y_pred / self.temperature, axis=1),
        ) * (self.temperature**2)
        return self.alpha * student_loss + (1 - self.alpha) * distillation_loss

    def call(self, x):
        return self.student(x)


def build_distiller():
    teacher = classifier(10, "teacher")
    teacher.trainable = False
    model = Distiller(classifier(8, "student"), teacher)
    model.build((None, 8, 8, 1))
    return model


def fit_distiller(model, callbacks, **kwargs):
    model.compile(
        optimizer=keras.optimizers.Adam(),
        metrics=[keras.metrics.SparseCategoricalAccuracy()],
        student_loss_fn=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        distillation_loss_fn=keras.losses.KLDivergence(),
        **kwargs,
    )
    return trained(model, examples((8, 8, 1)), np.arange(8) % 4, callbacks=callbacks)


class DistanceLayer(layers.Layer):
    def call(self, anchor, positive, negative):
        return (
            ops.sum(ops.square(anchor - positive), -1),
            ops.sum(ops.square(anchor - negative), -1),
        )


class SiameseModel(keras.Model):
    """One embedding, of three images."""

    def __init__(self, siamese_network, margin=0.5):
        super().__init__()
        self.siamese_network, self.margin = siamese_network, margin

    def call(self, inputs):
        return self.siamese_network(inputs)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        near, far = y_pred
        return ops.mean(ops.maximum(near - far + self.margin, 0.0))


def build_siamese():
    images = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(images)
    x = ResidualUnit(12)(x)
    x = layers.Dense(12, activation="relu")(layers.Flatten()(x))
    x = layers.Dense(10)(layers.BatchNormalization()(x))
    embedding = keras.Model(images, x, name="Embedding")
    three = [keras.Input((8, 8, 3), name=name) for name in ("anchor", "positive", "negative")]
    distances = DistanceLayer()(*[embedding(x) for x in three])
    model = SiameseModel(keras.Model(three, distances))
    model([np.zeros((1, 8, 8, 3), "float32")] * 3)
    return model


def fit_siamese(model, callbacks, **kwargs):
    model.compile(optimizer=keras.optimizers.Adam(1e-3), **kwargs)
    three = [examples((8, 8, 3), seed=seed) for seed in range(3)]
    return trained(model, three, callbacks=callbacks)


# Fields


class RadianceField(keras.Model):
    """Waves of positions, an MLP that reads them twice, and rays that are summed up."""

    def __init__(self, width=14, depth=4, samples=4, frequencies=2):
        super().__init__()
        self.samples, self.frequencies = samples, frequencies
        self.hidden = [layers.Dense(width, activation="relu") for _ in range(depth)]
        self.to_rgb_and_density = layers.Dense(4)

    def encode(self, x):
        parts = [x]
        for power in range(self.frequencies):
            parts += [ops.sin(2.0**power * x), ops.cos(2.0**power * x)]
        return ops.concatenate(parts, axis=-1)

    def call(self, rays):
        batch = ops.shape(rays)[0]
        encoded = self.encode(ops.reshape(rays, (-1, 3)))
        x = encoded
        for number, layer in enumerate(self.hidden):
            x = layer(x)
            if number == 1:
                x = ops.concatenate([x, encoded], axis=-1)
        x = ops.reshape(self.to_rgb_and_density(x), (batch, self.samples, 4))
        rgb, density = ops.sigmoid(x[..., :-1]), ops.relu(x[..., -1])
        alpha = 1.0 - ops.exp(-density * 0.5)
        passed = ops.cumprod(1.0 - alpha + 1e-6, axis=-1) / (1.0 - alpha + 1e-6)
        return ops.sum((alpha * passed)[..., None] * rgb, axis=-2)


def build_radiance_field():
    model = RadianceField()
    model(np.zeros((1, 4, 3), "float32"))
    return model
