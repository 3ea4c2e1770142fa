"""EpochSeed in a real fit: what the model saw is what it should have seen."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from ptkeras import data
from tests.helpers.two_devices import mirrored_strategy

pytestmark = pytest.mark.tensorflow


class Recording(keras.Model):
    """A model that keeps the batches it is trained on."""

    def train_step(self, batch):
        self.seen.append([part.numpy() for part in batch])
        return super().train_step(batch)


class Grow(keras.callbacks.Callback):
    """Changes the batch size after one epoch, as dynamic mini-batch adjustment does."""

    def __init__(self, dataset: data.Dataset, after: int, batch_size: int) -> None:
        super().__init__()
        self.dataset, self.after, self.batch_size = dataset, after, batch_size

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self.after:
            self.dataset.batch_size.assign(self.batch_size)


def _model(cls: type = Recording, eager: bool = True) -> keras.Model:
    image = keras.Input((8, 8, 1))
    scores = keras.layers.Dense(10)(keras.layers.Flatten()(image))
    model = cls(image, scores)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01), loss, run_eagerly=eager)
    return model


def _fit(dataset: data.Dataset, *callbacks: keras.callbacks.Callback, **options) -> list:
    """Fits, with validation, and returns the batches that the model was trained on."""
    model = _model()
    model.seen = []
    seeding = [data.EpochSeed(dataset), *callbacks]
    model.fit(
        dataset.train,
        validation_data=dataset.test,
        shuffle=False,
        verbose=0,
        callbacks=seeding,
        **options,
    )
    return model.seen


def _expected(dataset: data.Dataset, epoch: int) -> list:
    dataset.epoch.assign(epoch)
    return [[part.numpy() for part in batch] for batch in dataset.train]


def _assert_same(seen: list, expected: list) -> None:
    for batch, expected_batch in zip(seen, expected, strict=True):
        for part, expected_part in zip(batch, expected_batch, strict=True):
            np.testing.assert_array_equal(part, expected_part)


@pytest.fixture
def dataset() -> data.Dataset:
    return data.load("digits", batch_size=480, seed=4)


@pytest.fixture(autouse=True)
def _warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


def test_each_epoch_is_its_own(dataset):
    seen = _fit(dataset, epochs=3)
    _assert_same(seen, [batch for epoch in range(3) for batch in _expected(dataset, epoch)])


def test_a_resumed_run_sees_what_an_uninterrupted_one_sees(dataset):
    whole = _fit(dataset, epochs=4)
    resumed = _fit(data.load("digits", batch_size=480, seed=4), epochs=4, initial_epoch=2)
    _assert_same(resumed, whole[2 * len(dataset.train) :])


def test_the_batch_grows_inside_one_fit(dataset):
    seen = _fit(dataset, Grow(dataset, after=1, batch_size=720), epochs=4)
    assert [len(labels) for _, labels in seen] == [480, 480, 477] * 2 + [720, 717] * 2
    _assert_same(seen[6:], _expected(dataset, 2) + _expected(dataset, 3))


def test_keras_may_warn_again_after_the_fit(dataset):
    filters = list(warnings.filters)
    _fit(dataset, Grow(dataset, after=0, batch_size=1000), epochs=3)
    assert list(warnings.filters) == filters


def test_a_batch_that_shrinks_is_refused(dataset):
    with pytest.raises(ValueError, match=r"batch_size shrank to 100 .* after 3 of 15 steps"):
        _fit(dataset, Grow(dataset, after=0, batch_size=100), epochs=2)


def test_steps_per_epoch_is_refused(dataset):
    with pytest.raises(ValueError, match=r"steps_per_epoch must be left out .* of 3 steps; got 2"):
        _fit(dataset, epochs=1, steps_per_epoch=2)


def test_two_replicas_train_on_what_one_would(data_dir):
    # 60 images, so that each batch has two equal halves.
    dataset = data.load("mnist", batch_size=14, data_dir=data_dir)

    def weights(strategy: tf.distribute.Strategy) -> list[np.ndarray]:
        keras.utils.set_random_seed(1)
        dataset.batch_size.assign(14)
        with strategy.scope():
            model = _model(keras.Model, eager=False)
        growing = Grow(dataset, after=0, batch_size=24)
        callbacks = [data.EpochSeed(dataset), growing]
        model.fit(dataset.train, shuffle=False, epochs=3, verbose=0, callbacks=callbacks)
        steps = tf.convert_to_tensor(model.optimizer.iterations.value)
        assert int(steps) == 5 + 2 * 3  # and not one more for each end of an epoch
        return model.get_weights()

    one = weights(tf.distribute.get_strategy())
    two = weights(mirrored_strategy())
    for weight, other in zip(one, two, strict=True):
        np.testing.assert_allclose(weight, other, rtol=1e-4, atol=1e-6)
