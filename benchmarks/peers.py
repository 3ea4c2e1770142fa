"""What sparse training costs a step: the group lasso here, `regularize` in Torch-Pruning.

    pip install torch==2.13.0 torch-pruning==1.6.1
    python -m benchmarks.peers [--batch_size=128] [--rounds=9]

One process, one batch, the same ResNet-20 in Keras and in PyTorch, each as it is and with what it
does for sparsity: `GroupLasso` on all kernels, and Torch-Pruning's `GroupNormPruner`, which adds to
the gradients between the backward pass and the step of the optimiser. All take turns. The figures
are medians; they are printed, and written to benchmarks/results/peers.json. The goal: our overhead
is the smaller one. An overhead can be next to nothing, or under it by noise, and is no divisor: the
two are compared as multiples of a step without, (with / without) of ours over theirs. For the other
peers see benchmarks.torch_pruning (tracing and pruning) and benchmarks.magnitude_step (TF-MOT).
"""

import argparse
import statistics

import keras
import torch
import torch_pruning
from torch import nn

from benchmarks import _training, measuring
from ptkeras import lasso
from ptkeras.channels import trace

PEERS = {"ptkeras": "ptkeras's group lasso", "torch_pruning": "Torch-Pruning's regularize"}


class Block(nn.Module):
    """Two convolutions and a shortcut, which is one as well where the size changes."""

    def __init__(self, inputs, filters, stride):
        super().__init__()
        self.body = nn.Sequential(
            *conv(inputs, filters, 3, stride), nn.ReLU(), *conv(filters, filters, 3, 1)
        )
        self.shortcut = nn.Identity()
        if stride > 1 or inputs != filters:
            self.shortcut = nn.Sequential(*conv(inputs, filters, 1, stride))

    def forward(self, x):
        return torch.relu(self.body(x) + self.shortcut(x))


def conv(inputs, filters, size, stride):
    layer = nn.Conv2d(inputs, filters, size, stride, padding=size // 2, bias=False)
    return layer, nn.BatchNorm2d(filters)


def resnet20():
    """The network that ptkeras.models builds by this name."""
    layers, inputs = [*conv(3, 16, 3, 1), nn.ReLU()], 16
    for stage, filters in enumerate((16, 32, 64)):
        for index in range(3):
            layers.append(Block(inputs, filters, 2 if stage and not index else 1))
            inputs = filters
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def torch_steps(model, data, count, sparse):
    """A job: training steps in PyTorch, with Torch-Pruning's regularisation or without."""
    images = torch.from_numpy(data[0]).permute(0, 3, 1, 2).contiguous()
    labels = torch.from_numpy(data[1])
    pruner = torch_pruning.pruner.GroupNormPruner(
        model,
        images[:1],
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        ignored_layers=[model[-1]],
    )
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    loss = nn.CrossEntropyLoss()
    model.train()

    def run():
        for _ in range(count):
            optimizer.zero_grad()
            loss(model(images), labels).backward()
            if sparse:
                pruner.regularize(model)
            optimizer.step()

    return run


def keras_steps(model, data, count, sparse):
    """A job: training steps in Keras, with the group lasso or without."""
    _training.compiled(model)
    if sparse:
        lasso.attach(trace(model), keras.Variable(1e-4, trainable=False))
    return _training.steps(model, data, count)


def jobs(options):
    """All four, by name, compiled."""
    data = _training.batch(options.size, options.batch_size)
    found = {}
    for sparse in (False, True):
        suffix = " sparse" * sparse
        ours, theirs = _training.network("resnet20", options.size), resnet20()
        sizes = [sum(v.value.numpy().size for v in ours.trainable_variables)]
        sizes.append(sum(p.numel() for p in theirs.parameters()))
        assert sizes[0] == sizes[1], f"not the same network: {sizes} parameters"
        found[f"ptkeras{suffix}"] = keras_steps(ours, data, options.steps, sparse)
        found[f"torch_pruning{suffix}"] = torch_steps(theirs, data, options.steps, sparse)
    for job in found.values():
        job()
    return found


def compared(seconds):
    """A step with sparse training over one without, of each peer, and ours over theirs."""
    lines, multiples = [], []
    for peer, title in PEERS.items():
        sparse, plain = seconds[f"{peer} sparse"], seconds[peer]
        lines.append(
            measuring.ratio(f"a ResNet-20 step with {title} over one without", sparse, plain)
        )
        multiples.append([a / b for a, b in zip(sparse, plain, strict=True)])
    what = "… ours as a multiple of a step without, over theirs"
    return [*lines, measuring.ratio(what, *multiples, "≤ 1")]


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=measuring.count, default=32)
    parser.add_argument("--batch_size", type=measuring.count, default=128)
    parser.add_argument("--rounds", type=measuring.count, default=9)
    parser.add_argument("--steps", type=measuring.count, default=3)
    options = parser.parse_args(arguments)
    times = measuring.turns(jobs(options), options.rounds)
    ratios, of_processors = measuring.by_both_clocks(compared, times)
    added = {}
    for peer in PEERS:
        pairs = zip(times[f"{peer} sparse"].wall, times[peer].wall, strict=True)
        added[peer] = statistics.median(a - b for a, b in pairs) / options.steps
        print(f"{peer} adds {1e3 * added[peer]:.1f} ms to a step")
    measuring.say_both(ratios, of_processors)
    packages = (*_training.PACKAGES, "torch", "torch_pruning")
    told = {"ratios": ratios, "of_processors": of_processors, "seconds_a_step_added": added}
    measuring.write("peers", vars(options), packages, **told)


if __name__ == "__main__":
    main()
