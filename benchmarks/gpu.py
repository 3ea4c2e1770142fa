"""Seconds of a training step on a GPU: dense, and with shares of the FLOPs gone.

    pip install "jax[cuda13]" keras numpy scipy absl-py rich     # TensorFlow is not needed
    KERAS_BACKEND=jax python -m benchmarks.gpu
    KERAS_BACKEND=jax python -m benchmarks.gpu --model=resnet20 --size=32 --batch_size=8 --steps=2

ResNet-50 at 224x224 with batches of 256 in bfloat16, on images that are random and stay on the
device. --left says which shares of the inference FLOPs are left. Its 0.6 and 0.5 are round figures,
not what a PruneTrain run has left: they stand in for runs with lasso penalty ratios of 0.2 and 0.3,
whose shares are in their result.json. Channels go at random, from all layers alike, where
PruneTrain takes more from some; once with exact counts and once with counts in multiples of 8. A
second pair of commands, of hours, trains ResNet-32 on CIFAR-10 in full (it reads the data by TFDS,
and so needs TensorFlow beside JAX):

    export KERAS_BACKEND=jax
    python -m ptkeras.train --flagfile=flags/cifar10_resnet32.flags --data_dir=…
    python -m ptkeras.train --flagfile=flags/cifar10_resnet32.flags --data_dir=… --method=dense

The figures are medians over rounds that take turns; they are printed, and written to
benchmarks/results/gpu.json.
"""

import argparse
import re
import statistics

import keras

import ptkeras
from benchmarks import _training, measuring


def jobs(options):
    """By name, training steps of the dense network and of each smaller one; and their FLOPs."""
    images, labels = _training.batch(options.size, options.batch_size, options.classes)
    data = keras.ops.cast(images, "bfloat16"), keras.ops.convert_to_tensor(labels)
    networks = {"dense": (1.0, 1)}
    for share in options.left.split(","):
        networks[f"{share} of the FLOPs, exact"] = (float(share), 1)
        networks[f"{share} of the FLOPs, multiples of 8"] = (float(share), 8)
    found, flops = {}, {}
    for name, (share, multiple) in networks.items():
        model = _training.network(options.model, options.size, options.classes)
        if share < 1:
            ptkeras.prune(
                model,
                1 - share,
                of="flops",
                criterion=ptkeras.importance.random(0),
                scope="layer",
                channel_multiple=multiple,
            )
        flops[name] = ptkeras.cost.inference_flops(model)
        _training.compiled(model, jit_compile="auto")
        found[name] = _training.steps(model, data, options.steps)
        found[name]()  # compiles
    return found, flops


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--size", type=measuring.count, default=224)
    parser.add_argument("--classes", type=measuring.count, default=1000)
    parser.add_argument("--batch_size", type=measuring.count, default=256)
    parser.add_argument("--left", default="0.6,0.5")
    parser.add_argument("--rounds", type=measuring.count, default=9)
    parser.add_argument("--steps", type=measuring.count, default=10)
    options = parser.parse_args(arguments)
    for share in options.left.split(","):
        if not re.fullmatch(r"0?\.\d*[1-9]\d*", share):
            parser.error(f"argument --left: {share!r} is no share over 0 and under 1, such as 0.6")
    keras.config.set_dtype_policy("mixed_bfloat16")
    ready, flops = jobs(options)
    times = measuring.turns(ready, options.rounds)
    ratios = []
    for name, taken in times.items():
        seconds = statistics.median(taken.wall) / options.steps
        share = flops[name] / flops["dense"]
        print(f"{name}: {1e3 * seconds:.1f} ms a step, {share:.3f} of the FLOPs")
        if name != "dense":
            what = f"a step of {options.model} with {name} over a dense one, {_device()}"
            goal = f"→ {share:.2f}, its FLOPs"
            ratios.append(measuring.ratio(what, taken.wall, times["dense"].wall, goal))
            measuring.say(ratios[-1])
    seconds = {name: statistics.median(t.wall) / options.steps for name, t in times.items()}
    measuring.write(
        "gpu",
        vars(options),
        _training.PACKAGES,
        device=_device(),
        ratios=ratios,
        seconds_a_step=seconds,
        inference_flops=flops,
    )


def _device():
    """What the steps ran on."""
    if keras.config.backend() != "jax":
        return keras.config.backend()
    import jax

    return f"{jax.devices()[0].device_kind} ({jax.devices()[0].platform})"


if __name__ == "__main__":
    main()
