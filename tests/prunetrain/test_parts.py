"""Pruning a part of the model in `fit`."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import ptkeras
from ptkeras import lasso
from ptkeras.channels import trace
from tests.helpers.digits_network import digits, network
from tests.helpers.forced import Forced

pytestmark = pytest.mark.thorough


def norms(model):
    return lasso.group_norms(trace(model))


def dense(inputs, *units):
    hidden = [layers.Dense(n, "relu") for n in units[:-1]]
    return keras.Sequential([keras.Input((inputs,)), *hidden, layers.Dense(units[-1])])


def distiller():
    """Keras's own, whose `compute_loss` leaves out `self.losses`."""
    student, teacher = network(8), network(4)
    model = keras.distillation.Distiller(
        teacher=teacher,
        student=student,
        distillation_losses=keras.distillation.LogitsDistillation(),
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), loss)
    return model, student


class Autoencoder(keras.Model):
    """A variational autoencoder, its divergence an `add_loss`."""

    def __init__(self):
        super().__init__()
        self.encoder = dense(64, 16, 16, 8)
        self.decoder = dense(4, 16, 16, 64)
        self.seeds = keras.random.SeedGenerator(1)

    def call(self, x):
        mean, log_variance = ops.split(self.encoder(x), 2, axis=-1)
        self.add_loss(0.01 * ops.mean(ops.exp(log_variance) + mean**2 - 1 - log_variance))
        noise = keras.random.normal(ops.shape(mean), seed=self.seeds)
        return self.decoder(mean + ops.exp(log_variance / 2) * noise)


def autoencoder():
    model = Autoencoder()
    model.compile(keras.optimizers.Adam(1e-3), "mse")
    return model, model.decoder


class Siamese(keras.Model):
    """SimSiam: an encoder and a predictor, both called on two views."""

    def __init__(self):
        super().__init__()
        self.encoder = dense(64, 16, 16, 8)
        self.predictor = dense(8, 8, 8)

    def call(self, x):
        return self.predictor(self.encoder(x))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        target = ops.stop_gradient(self.encoder(x[:, ::-1]))
        return 2 + ops.mean(keras.losses.cosine_similarity(target, y_pred))


def siamese():
    model = Siamese()
    model.compile(keras.optimizers.SGD(0.05))
    return model, model.encoder


def data_for(model):
    x, y = digits(128)
    if isinstance(model, keras.distillation.Distiller):
        return x, y
    return x.reshape(len(x), -1), x.reshape(len(x), -1)


PARTS = {"distiller": distiller, "autoencoder": autoencoder, "siamese": siamese}


@pytest.mark.parametrize("name", PARTS)
def test_the_lasso_acts_on_the_part_alone(name):
    model, part = PARTS[name]()
    x, y = data_for(model)
    model(x[:2])
    others = {id(v) for v in model.trainable_variables} - {id(v) for v in part.trainable_variables}
    assert others or name == "distiller"
    before, size = norms(part), part.count_params()
    callback = ptkeras.PruneTrain(ratio=0.95, interval=4, threshold=1e-9, model=part, verbose=0)
    log = model.fit(x, y, 32, epochs=4, callbacks=[callback], verbose=0).history
    assert norms(part) < 0.95 * before and log["lasso"][-1] < log["lasso"][0]
    assert log["params"] == [size] * 4
    assert log["training_flops"][-1] == 4 * 128 * ptkeras.cost.training_flops(part)
    assert not lasso.is_attached(model) and "apply" not in vars(model.optimizer)


def gan():
    import tensorflow as tf

    class Gan(keras.Model):
        """As Keras's examples have it: two optimizers, no `self.losses`, losses of two names."""

        def __init__(self):
            super().__init__()
            self.generator = dense(4, 16, 16, 64)
            self.discriminator = dense(64, 16, 16, 1)
            self.built = True

        def compile(self, d_optimizer, g_optimizer):
            super().compile()
            self.d_optimizer, self.g_optimizer = d_optimizer, g_optimizer

        def train_step(self, data):
            real = data[0] if isinstance(data, tuple) else data
            noise = tf.random.normal((tf.shape(real)[0], 4))
            entropy = keras.losses.BinaryCrossentropy(from_logits=True)
            with tf.GradientTape() as tape:
                scores = self.discriminator(tf.concat([self.generator(noise), real], 0))
                truth = tf.cast(tf.range(tf.shape(scores)[0]) >= tf.shape(real)[0], "float32")
                d_loss = entropy(truth[:, None], scores)
            variables = self.discriminator.trainable_variables
            self.d_optimizer.apply(tape.gradient(d_loss, variables), variables)
            with tf.GradientTape() as tape:
                scores = self.discriminator(self.generator(noise))
                g_loss = entropy(tf.ones_like(scores), scores)
            variables = self.generator.trainable_variables
            self.g_optimizer.apply(tape.gradient(g_loss, variables), variables)
            return {"d_loss": d_loss, "g_loss": g_loss}

    model = Gan()
    model.compile(keras.optimizers.Adam(1e-3), keras.optimizers.Adam(1e-3))
    return model


@pytest.mark.tensorflow
def test_the_generator_of_a_gan():
    x = digits(128)[0].reshape(128, -1)
    model = gan()
    before, other = norms(model.generator), norms(model.discriminator)
    callback = ptkeras.PruneTrain(
        ratio=0.95, interval=4, threshold=1e-9, model=model.generator, monitor="g_loss", verbose=0
    )
    log = model.fit(x, batch_size=32, epochs=4, callbacks=[callback], verbose=0).history
    assert norms(model.generator) < 0.95 * before
    assert norms(model.discriminator) == pytest.approx(other, rel=0.1)
    flops = ptkeras.cost.training_flops(model.generator)
    assert log["training_flops"] == [n * 128 * flops for n in (1, 2, 3, 4)]
    assert "apply" not in vars(model.g_optimizer)


@pytest.mark.tensorflow
def test_a_loss_of_another_name_is_to_be_named():
    x = digits(64)[0].reshape(64, -1)
    model = gan()
    callback = ptkeras.PruneTrain(ratio=0.2, interval=1, model=model.generator, verbose=0)
    with pytest.raises(ValueError, match=r"have no 'loss'.* but: d_loss, g_loss. Name one"):
        model.fit(x, verbose=0, callbacks=[callback])
    callback.strength = 0.01
    model.fit(x, verbose=0, callbacks=[callback])


@pytest.mark.tensorflow
def test_both_parts_of_a_gan():
    x = digits(64)[0].reshape(64, -1)
    model = gan()
    before = norms(model.generator), norms(model.discriminator)
    callbacks = [
        ptkeras.PruneTrain(0.95, 3, 1e-9, model=part, monitor=name, verbose=0)
        for part, name in ((model.generator, "g_loss"), (model.discriminator, "d_loss"))
    ]
    model.fit(x, batch_size=16, epochs=3, callbacks=callbacks, verbose=0)
    assert norms(model.generator) < before[0] and norms(model.discriminator) < before[1]
    assert [c.training_flops > 0 for c in callbacks] == [True, True]
    assert "train_step" not in vars(model)


@pytest.mark.compiles_much
@pytest.mark.parametrize("name", PARTS)
def test_the_part_shrinks_and_the_rest_follows(name):
    model, part = PARTS[name]()
    x, y = data_for(model)
    model(x[:2])
    callback = Forced(model=part, interval=2)
    size = part.count_params()
    log = model.fit(x, y, 32, epochs=5, callbacks=[callback], verbose=0).history
    assert part.count_params() < size
    assert [record["epoch"] for record in callback.reconfigurations] == [2, 4, 5]
    assert np.isfinite(log["loss"]).all()
    model.fit(x, y, verbose=0)
    model.evaluate(x, y, verbose=0)


def test_a_model_that_is_no_part_is_refused():
    x, y = digits(32)
    model, _ = distiller()
    with pytest.raises(ValueError, match=r"is no part of the one in fit"):
        model.fit(
            x, y, callbacks=[ptkeras.PruneTrain(ratio=0.2, interval=1, model=network())], verbose=0
        )
    with pytest.raises(ValueError, match=r"is no part of the one in fit"):
        model.fit(
            x, y, callbacks=[ptkeras.MagnitudePruning(lambda s: 0.5, model=network())], verbose=0
        )
    with pytest.raises(ValueError, match=r"model of PruneTrain .* received 'student'"):
        ptkeras.PruneTrain(model="student")


@pytest.mark.parametrize("name", PARTS)
def test_weights_of_the_part_are_masked_until_they_are_stripped(name):
    model, part = PARTS[name]()
    x, y = data_for(model)
    model(x[:2])
    callback = ptkeras.MagnitudePruning(lambda step: 0.5, model=part)
    log = model.fit(x, y, 32, epochs=2, callbacks=[callback], verbose=0).history
    kernels = [k.variable for k in ptkeras.magnitude.kernels.kernels(part)]
    share = sparsity(kernels)
    assert share == pytest.approx(0.5, abs=0.05) and log["sparsity"][-1] == pytest.approx(share)
    others = [k.variable for k in ptkeras.magnitude.kernels.kernels(model)]
    others = [v for v in others if all(v is not kernel for kernel in kernels)]
    assert not others or sparsity(others) < 0.05
    model.fit(x, y, 32, verbose=0)
    assert sparsity(kernels) == share
    ptkeras.magnitude.strip(part)
    model.fit(x, y, 32, verbose=0)
    assert sparsity(kernels) < 0.3


def sparsity(kernels):
    values = [ops.convert_to_numpy(kernel) for kernel in kernels]
    return sum((v == 0).sum() for v in values) / sum(v.size for v in values)
