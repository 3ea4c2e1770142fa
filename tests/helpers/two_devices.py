"""The one MirroredStrategy of a test process.

TensorFlow numbers the collective operations of every strategy object from the same start, and
remembers their shapes: a second object in one process collides with the first.
"""

import functools


@functools.cache
def mirrored_strategy():
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
