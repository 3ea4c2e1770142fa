"""Images per second of the input pipeline, beside two other ways of writing it.

    python -m benchmarks.input_pipeline [--data_dir=TFDS_DATA_DIR]

All three shuffle, crop with 4 pixels of padding, mirror and normalise CIFAR-10, in batches of 128:

- batch: as `ptkeras.data` does it, gathering and augmenting a whole batch at once;
- keras: Keras's preprocessing layers on each batch, inside `tf.data`;
- example: `Dataset.map` over single images, then `batch`.

Without --data_dir the images are noise of CIFAR-10's shape, which takes as long. The figures are
medians over rounds that take turns, and of the rounds' ratios of images per second; they are
printed, and written to benchmarks/results/input_pipeline.json.
"""

import argparse
import functools
import statistics
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from benchmarks import measuring
from ptkeras.data import dataset, memory, tfds_source

BATCH_SIZE = 128


def read_arrays(data_dir: str | None) -> memory.Arrays:
    if data_dir is not None:
        source = tfds_source.find("cifar10", data_dir)
        return memory.read(source.train_files, source.parse)
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (50_000, 32, 32, 3), dtype=np.uint8)
    return memory.Arrays(images, random.integers(0, 10, 50_000))


def batch_pipeline(arrays: memory.Arrays, how: memory.Preparation) -> tf.data.Dataset:
    batches = memory.train_batches(arrays, how, seed=0, augmented=True)
    epoch = dataset.cpu_variable(0, "epoch")
    size = dataset.cpu_variable(BATCH_SIZE, "batch_size")
    first_step = dataset.cpu_variable(0, "first_step")
    return dataset.one_epoch(batches, epoch, size, first_step, len(arrays.labels))


def keras_pipeline(arrays: memory.Arrays, how: memory.Preparation) -> tf.data.Dataset:
    layers = [
        keras.layers.ZeroPadding2D(how.padding),
        keras.layers.RandomCrop(*arrays.images.shape[1:3], seed=0),
        keras.layers.RandomFlip("horizontal", seed=0),
        keras.layers.Normalization(mean=how.mean, variance=np.square(how.std)),
    ]

    def augment(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        images = layers[0](tf.cast(images, tf.float32))
        return layers[3](layers[2](layers[1](images, training=True), training=True)), labels

    examples = tf.data.Dataset.from_tensor_slices((arrays.images, arrays.labels))
    batches = examples.shuffle(len(arrays.labels), seed=0).batch(BATCH_SIZE)
    return batches.map(augment, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def example_pipeline(arrays: memory.Arrays, how: memory.Preparation) -> tf.data.Dataset:
    height, width = arrays.images.shape[1:3]
    mean, std = tf.constant(how.mean), tf.constant(how.std)

    def augment(index: tf.Tensor, example: tuple) -> tuple[tf.Tensor, tf.Tensor]:
        image, label = example
        seed = tf.stack([tf.constant(0, tf.int64), index])
        image = tf.image.resize_with_crop_or_pad(
            image, height + 2 * how.padding, width + 2 * how.padding
        )
        image = tf.image.stateless_random_crop(image, (height, width, 3), seed)
        image = tf.image.stateless_random_flip_left_right(image, seed + 1)
        return (tf.cast(image, tf.float32) - mean) / std, label

    examples = tf.data.Dataset.from_tensor_slices((arrays.images, arrays.labels))
    examples = examples.shuffle(len(arrays.labels), seed=0).enumerate()
    examples = examples.map(augment, num_parallel_calls=tf.data.AUTOTUNE)
    return examples.batch(BATCH_SIZE).prefetch(tf.data.AUTOTUNE)


def images_in(pipeline: tf.data.Dataset) -> int:
    return sum(len(labels) for _, labels in pipeline)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", help="TFDS's data directory, with cifar10 in it")
    parser.add_argument(
        "--rounds", type=measuring.count, default=5, help="epochs timed for each pipeline"
    )
    options = parser.parse_args(arguments)
    arrays = read_arrays(options.data_dir)
    how = memory.Preparation(*memory.channel_statistics(arrays.images), padding=4, flip=True)
    makers = {"batch": batch_pipeline, "keras": keras_pipeline, "example": example_pipeline}
    pipelines = {name: make(arrays, how) for name, make in makers.items()}
    images = {name: images_in(pipeline) for name, pipeline in pipelines.items()}  # traces them too
    jobs = {name: functools.partial(images_in, each) for name, each in pipelines.items()}
    times = measuring.turns(jobs, options.rounds)
    rates = {name: [images[name] / s for s in taken.wall] for name, taken in times.items()}
    medians = {name: statistics.median(values) for name, values in rates.items()}
    others = {"keras": "Keras's preprocessing layers", "example": "single images"}
    ratios = [
        measuring.ratio(f"images a second, whole batches over {what}", rates["batch"], rates[name])
        for name, what in others.items()
    ]
    for name, median in medians.items():
        print(f"{name:8} {median:8,.0f} images a second")
    for line in ratios:
        measuring.say(line)
    of = "cifar10" if options.data_dir else "noise of CIFAR-10's shape"
    settings = {"rounds": options.rounds, "images": of}
    rounded = {name: round(median) for name, median in medians.items()}
    packages = ("keras", "tensorflow")
    measuring.write("input_pipeline", settings, packages, ratios=ratios, images_per_second=rounded)


if __name__ == "__main__":
    main()
