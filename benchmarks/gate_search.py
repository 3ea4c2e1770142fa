"""Seconds that the search of Pruning from Scratch takes, over those of one dense training.

    python -m benchmarks.gate_search --data_dir=… [--models=resnet56,vgg16] [--epochs=10]

For each network the gates are learned on CIFAR-10, with the flags of its flagfile, and the
structure for half of the FLOPs is built. The dense training that it is compared with would take
hours: its seconds are those of a step of the dense network times the steps of all epochs of the
flagfile; a step of the search is timed in turns with it, and the figures are medians over the
rounds. With fewer --epochs or --steps than the flagfile's the search too is worked out from its
steps, and its gates are not the paper's. What was measured and what was worked out is told apart.
Writes benchmarks/results/gate_search.json. The goals: FLOPs within 1 % of the budget, and a search
of at most a tenth of a dense training.
"""

import argparse
import functools
import statistics

import keras

from benchmarks import measuring
from ptkeras import cost, data, fused_batch_norm
from ptkeras.channels import trace
from ptkeras.from_scratch import learn_gates
from ptkeras.from_scratch.gated_network import GatedNetwork
from ptkeras.methods import settings
from ptkeras.methods.callbacks.pruning_from_scratch import HELD_OUT
from ptkeras.models import build
from ptkeras.surgery.fresh import widen

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def steps(flags, dataset, rounds):
    """Seconds of a training step in each round, dense and gated, on the same batch."""
    dense = build(flags.model, dataset.input_shape, dataset.num_classes)
    dense.compile(keras.optimizers.SGD(flags.learning_rate, momentum=flags.momentum), LOSS)
    gated = GatedNetwork(
        trace(widen(dense, flags.channel_expansion)), flags.sparsity_ratio, flags.balance_factor
    )
    gated.compile(keras.optimizers.Adam(flags.gate_learning_rate), LOSS)
    batch = next(iter(dataset.train))
    models = {"dense": dense, "gated": gated}
    jobs = {name: functools.partial(m.train_on_batch, *batch) for name, m in models.items()}
    for job in jobs.values():
        job()  # compiles
    return {name: times.wall for name, times in measuring.turns(jobs, rounds).items()}


def measure(name, options):
    flagfile = f"flags/cifar10_{name}_pruning_from_scratch.flags"
    flags = settings.parse([f"--flagfile={flagfile}"])
    load = {"batch_size": flags.gate_batch_size, "data_dir": options.data_dir}
    dataset = data.load(flags.dataset, hold_out=HELD_OUT, **load)
    keras.utils.set_random_seed(flags.seed)
    step = steps(flags, dataset, options.timed_steps)
    model = build(name, dataset.input_shape, dataset.num_classes)
    train = dataset.train if options.steps is None else dataset.train.take(options.steps)
    seeding = [] if options.steps else [data.EpochSeed(dataset)]
    epochs = options.epochs or flags.gate_epochs
    test = dataset.test if options.steps is None else dataset.test.take(options.steps)
    search = learn_gates(
        model,
        train,
        validation_data=test,
        loss=LOSS,
        sparsity_ratio=flags.sparsity_ratio,
        balance_factor=flags.balance_factor,
        channel_expansion=flags.channel_expansion,
        learning_rate=flags.gate_learning_rate,
        epochs=epochs,
        callbacks=seeding,
        shuffle=False,
        verbose=2,
    )
    small = search.build(flags.flops_budget)
    gate_steps = flags.gate_epochs * -(-dataset.num_train // flags.gate_batch_size)
    images = dataset.num_train + dataset.num_test
    dense_steps = flags.epochs * -(-images // flags.batch_size)
    full = options.steps is None and epochs == flags.gate_epochs
    searches = [search.seconds if full else gate_steps * seconds for seconds in step["gated"]]
    trainings = [dense_steps * seconds for seconds in step["dense"]]
    what = f"the search of Pruning from Scratch over a dense training, {name}"
    ratio = measuring.ratio(what, searches, trainings, "≤ 0.1")
    return ratio, {
        "model": name,
        "seconds_a_step": {kind: statistics.median(seconds) for kind, seconds in step.items()},
        "search_epochs": epochs,
        "search_seconds": statistics.median(searches),
        "search_was": "measured" if full else "worked out from its steps",
        "dense_epochs": flags.epochs,
        "dense_seconds_worked_out": statistics.median(trainings),
        "budget": flags.flops_budget,
        "flops": cost.inference_flops(small) / cost.inference_flops(model),
        "params": [model.count_params(), small.count_params()],
        "history": search.history,
        "kept_epoch": search.epoch,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir")
    parser.add_argument("--models", default="resnet56,vgg16")
    parser.add_argument(
        "--epochs", type=measuring.count, help="of the search; left out, the flagfile's"
    )
    parser.add_argument("--steps", type=measuring.count, help="of such an epoch; left out, all")
    parser.add_argument(
        "--timed_steps", type=measuring.count, default=11, help="of each network, in turns"
    )
    options = parser.parse_args()
    ratios, rows = [], []
    for name in options.models.split(","):
        with fused_batch_norm():  # as ptkeras.train has it
            ratio, row = measure(name, options)
        ratios.append(ratio)
        rows.append(row)
        print(
            f"{name}: {row['flops']:.4f} of the FLOPs for a budget of {row['budget']}; the search "
            f"takes {row['search_seconds']:,.0f} s ({row['search_was']}), {row['dense_epochs']} "
            f"dense epochs {row['dense_seconds_worked_out']:,.0f} s"
        )
        measuring.say(ratio)
    packages = ("keras", keras.config.backend())
    told = vars(options) | {"data_dir": None}
    measuring.write("gate_search", told, packages, ratios=ratios, networks=rows)


if __name__ == "__main__":
    main()
