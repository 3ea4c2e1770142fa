"""Which images take which branches, and what that costs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np

from ptkeras import cost
from ptkeras.channels.graph import Functional, nodes_of
from ptkeras.skipnet.blocks import Block, gated_blocks
from ptkeras.skipnet.layers import Skip
from ptkeras.utils.progress import working


@dataclasses.dataclass(frozen=True, eq=False)
class Routing:
    """What the gates of a network decide for some images.

    Attributes:
        blocks: the names of the blocks with gates, in order.
        decisions: bool array of shape `(images, blocks)`: whether the image takes the branch.
        labels: int array of shape `(images,)`, the classes.
        correct: bool array of shape `(images,)`: whether the network is right.
        base_flops: the inference FLOPs of what every image takes, the gates among it.
        block_flops: int array of shape `(blocks,)`: the inference FLOPs of each branch.
    """

    blocks: list[str]
    decisions: np.ndarray
    labels: np.ndarray
    correct: np.ndarray
    base_flops: int
    block_flops: np.ndarray

    @property
    def accuracy(self) -> float:
        """The share of images that the network is right about."""
        return float(self.correct.mean())

    @property
    def blocks_run(self) -> float:
        """The share of branches that are run, over images and blocks with gates."""
        return float(self.decisions.mean()) if self.blocks else 1.0

    @property
    def by_block(self) -> np.ndarray:
        """For each block the share of images that take its branch."""
        return self.decisions.mean(axis=0)

    @property
    def images_by_blocks(self) -> dict[int, float]:
        """The share of images that take so many branches, for each number that there is."""
        counts, images = np.unique(self.decisions.sum(axis=1), return_counts=True)
        shares = images / len(self.decisions)
        return dict(zip(counts.tolist(), shares.tolist(), strict=True))

    @property
    def by_class(self) -> dict[int, float]:
        """For each class the share of branches that its images take."""
        if not self.blocks:
            return {}
        return {
            int(label): float(self.decisions[self.labels == label].mean())
            for label in np.unique(self.labels)
        }

    @property
    def flops(self) -> np.ndarray:
        """The inference FLOPs of each image, an int array of shape `(images,)`."""
        return self.base_flops + self.decisions @ self.block_flops

    def quantiles(self, shares: Iterable[float] = (0, 0.25, 0.5, 0.75, 1)) -> list[int]:
        """The inference FLOPs that these shares of the images stay within."""
        return [int(value) for value in np.quantile(self.flops, list(shares), method="higher")]

    def __str__(self) -> str:
        low, *middle, high = (f"{value / 1e6:.2f}" for value in self.quantiles())
        lines = [
            f"{len(self.labels)} images, accuracy {self.accuracy:.2%}, "
            f"blocks run {self.blocks_run:.1%}",
            f"MFLOPs of an image: {self.flops.mean() / 1e6:.2f} in mean, from {low} to {high}, "
            f"quartiles {', '.join(middle)}",
        ]
        if self.blocks:
            counts = (f"{n}: {share:.1%}" for n, share in self.images_by_blocks.items())
            lines.append(f"images by blocks run, of {len(self.blocks)}: {', '.join(counts)}")
            lines += [
                f"{name}: {share:.1%}"
                for name, share in zip(self.blocks, self.by_block, strict=True)
            ]
            lines += [f"class {label}: {share:.1%}" for label, share in self.by_class.items()]
        return "\n".join(lines)


def measure(model: keras.Model, x: Any, y: Any = None, batch_size: int = 256) -> Routing:
    """Runs images through a network and notes what its gates decide.

    ```python
    routing = ptkeras.skipnet.measure(network, x_test, y_test)
    print(routing)
    routing.by_class[3], routing.flops.mean()
    ```

    FLOPs are those of what an image really needs: all but the branches that it skips.

    Args:
        model: a network with gates, a `SkipNet` or what `plain` made of one, with one output of a
            score a class. One without gates has no blocks.
        x: images, an array; or batches `(images, labels)`, such as a `tf.data.Dataset`.
        y: labels, integers of shape `(images,)` or one-hot; None where `x` has them.
        batch_size: how many images to run at once, where `x` is an array.

    Returns:
        The `Routing`.

    Raises:
        ValueError: the model has several outputs, or is what `skipping` has made; or there are no
            labels or no images.
    """
    return Watch(model).measure(x, y, batch_size)


class Watch:
    """A network with what its gates decide as outputs too, to `measure` more than once.

    Args:
        model: as for `measure`. It shares its layers with this.

    Attributes:
        output: the symbolic output of the model; another one once the model has been rebuilt.
    """

    def __init__(self, model: keras.Model) -> None:
        if any(isinstance(layer, Skip) for layer in model.layers):
            raise ValueError(
                f"'{model.name}' skips branches without a word of it: measure the network that "
                "ptkeras.skipnet.skipping was given."
            )
        blocks = gated_blocks(model)
        self.output = model.outputs[0]
        self.blocks = [block.name for block in blocks]
        self.block_flops = _flops_of(model, blocks)
        self.base_flops = cost.inference_flops(model) - int(self.block_flops.sum())
        decisions = [block.decision for block in blocks]
        self._outputs = len(model.outputs)
        self.model = Functional(model.inputs, [*model.outputs, *decisions], name=model.name)

    def decisions(self, x: Any, batch_size: int = 256) -> np.ndarray:
        """Which images take which branches, as in `Routing.decisions`.

        Args:
            x: images, an array; or batches of images, or of `(images, labels)`.
            batch_size: how many images to run at once, where `x` is an array.
        """
        batches = _batches(x, batch_size)
        images = (batch[0] if isinstance(batch, tuple | list) else batch for batch in batches)
        with working("Watching the gates"):
            decisions = [self._run(each)[1] for each in images]
        self._check_some(decisions)
        return np.concatenate(decisions)

    def measure(self, x: Any, y: Any = None, batch_size: int = 256) -> Routing:
        """As the function of this name."""
        if self._outputs != 1:
            raise ValueError(
                f"'{self.model.name}' must have one output, a score for each class, to be "
                f"measured; it has {self._outputs}."
            )
        decisions, labels, correct = [], [], []
        with working("Watching the gates"):
            for images, classes in _labelled(x, y, batch_size):
                [scores], taken = self._run(images)
                classes = np.asarray(classes)
                one_hot = classes.ndim > 1 and classes.shape[-1] > 1
                labels.append((classes.argmax(-1) if one_hot else classes).reshape(-1))
                correct.append(scores.argmax(-1) == labels[-1])
                decisions.append(taken)
        self._check_some(decisions)
        return Routing(
            blocks=self.blocks,
            decisions=np.concatenate(decisions),
            labels=np.concatenate(labels),
            correct=np.concatenate(correct),
            base_flops=self.base_flops,
            block_flops=self.block_flops,
        )

    def _check_some(self, batches: list[np.ndarray]) -> None:
        if not batches:
            raise ValueError(
                f"There are no images to watch the gates of '{self.model.name}' with: x is empty, "
                "or an iterator that has been read already."
            )

    def _run(self, images: Any) -> tuple[list[np.ndarray], np.ndarray]:
        """The outputs for a batch, and its decisions."""
        found = keras.tree.flatten(self.model.predict_on_batch(images))
        outputs, taken = found[: self._outputs], found[self._outputs :]
        none = np.zeros((len(outputs[0]), 0))
        return outputs, np.concatenate([none, *(t.reshape(-1, 1) for t in taken)], axis=1) > 0.5


def _labelled(x: Any, y: Any, size: int) -> Iterator[tuple[Any, Any]]:
    if y is not None:
        for start in range(0, len(x), size):
            yield x[start : start + size], y[start : start + size]
        return
    for batch in _batches(x, size):
        if not isinstance(batch, tuple | list) or len(batch) < 2:
            raise ValueError(
                "Accuracy is measured by labels, and there are none: give them as y, or batches "
                f"(images, labels) as x; received {_described(x)}."
            )
        yield batch[0], batch[1]


def _batches(x: Any, size: int) -> Iterator[Any]:
    if not hasattr(x, "shape"):
        yield from x
        return
    for start in range(0, len(x), size):
        yield x[start : start + size]


def _described(x: Any) -> str:
    return f"an array of shape {tuple(x.shape)}" if hasattr(x, "shape") else type(x).__name__


def _flops_of(model: keras.Model, blocks: list[Block]) -> np.ndarray:
    """The inference FLOPs of each block's branch."""
    macs: dict[str, int] = {}
    for row in cost.layer_costs(model):
        name = row.name.split("/")[0]  # what a wrapper wraps counts as the wrapper
        macs[name] = macs.get(name, 0) + row.macs
    names = [node.operation.name for node in nodes_of(model)]
    calls = {name: names.count(name) for name in names}  # the same cost each: shapes are the same
    return np.array(
        [
            2 * sum(macs[n.operation.name] // calls[n.operation.name] for n in block.nodes)
            for block in blocks
        ],
        int,
    )
