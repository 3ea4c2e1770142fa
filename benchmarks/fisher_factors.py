"""What EigenDamage's look at a network costs: ResNet-32 on 2,000 images of CIFAR-10.

    python -m benchmarks.fisher_factors --data_dir=… [--images=2000] [--batch_size=50]

The Kronecker factors of the Fisher information of every convolution and dense layer are measured,
decomposed, and the second moments measured in their eigenbasis: two passes over the images, forward
and backward. The weights are those that the network is drawn with, which changes no time. Seconds
are of the clock, and of the processor, over all its cores. They are printed, and written to
benchmarks/results/fisher_factors.json. The goal: all of it in under five minutes on two cores.
"""

import argparse
import os
import resource
import time

import keras

from benchmarks import measuring
from ptkeras import fisher
from ptkeras.methods import settings
from ptkeras.methods.callbacks.eigendamage import first_images
from ptkeras.models import build

FLAGFILE = "flags/cifar10_resnet32_eigendamage.flags"


def timed(name, function):
    """What a function returns; prints and returns its seconds too."""
    clock, processor = time.perf_counter(), time.process_time()
    result = function()
    seconds = {"clock": time.perf_counter() - clock, "processor": time.process_time() - processor}
    print(f"{name}: {seconds['clock']:.1f} s ({seconds['processor']:.1f} s of the processor)")
    return result, seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir")
    parser.add_argument("--images", type=measuring.count, default=2000)
    parser.add_argument("--batch_size", type=measuring.count, default=50)
    options = parser.parse_args()
    given = [f"--data_dir={options.data_dir}"] if options.data_dir else []
    flags = settings.parse([f"--flagfile={FLAGFILE}", f"--fisher_images={options.images}", *given])
    keras.utils.set_random_seed(flags.seed)
    images = first_images(flags)
    model = build(flags.model, images.shape[1:], 10)
    look = {
        "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "batch_size": options.batch_size,
    }
    factors, first = timed("factors", lambda: fisher.factors(model, images, **look))
    bases, second = timed(
        "eigendecomposition",
        lambda: {id(f.layer): (f.inputs.basis(), f.gradients.basis()) for f in factors},
    )
    of = [each.layer for each in factors]
    _, third = timed(
        "second moments",
        lambda: fisher.second_moments(model, images, bases, of=of, **look),
    )
    parts = {"factors": first, "eigendecomposition": second, "second_moments": third}
    total = {kind: sum(part[kind] for part in parts.values()) for kind in first}
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(
        f"{len(factors)} layers, {len(images)} images: {total['clock']:.1f} s "
        f"({total['processor']:.1f} s of the processor), {memory / 2**30:.2f} GiB at most"
    )
    measuring.write(
        "fisher_factors",
        vars(options) | {"data_dir": None},
        ("keras", keras.config.backend()),
        load=os.getloadavg(),
        layers=len(factors),
        images=len(images),
        seconds=parts,
        total=total,
        peak_bytes=memory,
    )


if __name__ == "__main__":
    main()
