"""What becomes of a network with gates once it is trained."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
from keras import ops

from ptkeras.channels.graph import Functional
from ptkeras.skipnet.blocks import PLAIN, Block, gated_blocks
from ptkeras.skipnet.copying import Copier
from ptkeras.skipnet.layers import Skip, Switch
from ptkeras.skipnet.network import SkipNet
from ptkeras.skipnet.routing import Watch


def skipping(model: keras.Model) -> keras.Model:
    """The network that does not compute the branches which an image skips.

    ```python
    fast = ptkeras.skipnet.skipping(network)
    fast(image[None])  # runs the branches that this image takes
    fast.predict(images)  # each branch gets those images of the batch that take it
    fast.save("fast.keras")  # needs `import ptkeras.skipnet` to be loaded
    ```

    See `Skip` for what runs when. It is for inference: its `fit` raises a ValueError.

    Args:
        model: a network with gates, a `SkipNet` or what `plain` made of one; it is not changed.

    Returns:
        A new model, not compiled.

    Raises:
        ValueError: the model has no gates, or they are held open.
    """
    return _Skipping(_blocks_of(model)).copy(model)


def plain(model: keras.Model) -> keras.Model:
    """The network with gates in layers of plain Keras: a file of it loads without ptkeras.

    All branches are computed, and count where the gate says so. `skipping` and the ONNX export,
    which leave branches out, take it as they take a `SkipNet`.

    Args:
        model: a `SkipNet`; it is not changed.

    Returns:
        A new model, not compiled.

    Raises:
        ValueError: the model has no gates, or they are held open.
    """
    _blocks_of(model)
    return _Plain().copy(model)


def remove_gates(model: keras.Model) -> keras.Model:
    """The network without its gates: every image takes every branch.

    Args:
        model: a network with gates, a `SkipNet` or what `plain` made of one; it is not changed.

    Returns:
        A new model, not compiled.

    Raises:
        ValueError: the model has no gates.
    """
    return _Ungated(_blocks_of(model, open_too=True)).copy(model)


def settle(model: keras.Model, x: Any) -> keras.Model:
    """The network without the gates that decide alike for all of these images.

    A branch that all of them take loses its gate, and one that none of them takes goes. What is
    left of the gates is what depends on the image. For other images the network may answer
    otherwise than before: give it the training images.

    Args:
        model: a network with gates, a `SkipNet` or what `plain` made of one; it is not changed.
        x: images, an array; or batches, with or without labels, such as a `tf.data.Dataset`.

    Returns:
        A new model, not compiled: a `SkipNet`, with hard gates, if some are left and `model` is
        one.

    Raises:
        ValueError: the model has no gates, or they are held open; or there are no images.
    """
    blocks = _blocks_of(model)
    by_block = Watch(model).decisions(x).mean(axis=0)
    always = [block for block, share in zip(blocks, by_block, strict=True) if share == 1]
    never = [block for block, share in zip(blocks, by_block, strict=True) if share == 0]
    left = len(blocks) - len(always) - len(never)
    kind = SkipNet if isinstance(model, SkipNet) and left else Functional
    settled = _Ungated(always, never).copy(model, kind)
    if isinstance(settled, SkipNet):
        settled.pretrain()
    return settled


def _blocks_of(model: keras.Model, open_too: bool = False) -> list[Block]:
    blocks = gated_blocks(model)
    if not blocks:
        raise ValueError(f"'{model.name}' has no gates: ptkeras.skipnet.add_gates puts them in.")
    switches = [layer for layer in model.layers if isinstance(layer, Switch)]
    if not open_too and any(switch.mode == "open" for switch in switches):
        raise ValueError(
            f"The gates of '{model.name}' are held open: call its pretrain() or reinforce(), and "
            "train it, or take them out with ptkeras.skipnet.remove_gates."
        )
    return blocks


class _Plain(Copier):
    def visit(self, node: Any, tensors: dict[int, Any]) -> list[Any]:
        if not isinstance(node.operation, Switch):
            return super().visit(node, tensors)
        (logit,) = node.input_tensors
        name = self.fresh_name(node.operation.name + PLAIN)
        return [keras.layers.ReLU(dtype="float32", name=name)(ops.sign(tensors[id(logit)]))]


class _Ungated(Copier):
    """Leaves gates out of blocks that are always run, and leaves blocks out that never are."""

    def __init__(self, always: list[Block], never: Iterable[Block] = ()) -> None:
        super().__init__()
        self.always = {id(block.add): block for block in always}
        self.never = {id(block.add): block for block in never}

    def visit(self, node: Any, tensors: dict[int, Any]) -> list[Any]:
        if (block := self.never.get(id(node))) is not None:
            return [tensors[id(block.shortcut)]]
        if (block := self.always.get(id(node))) is not None:
            (product,) = (x for x in node.input_tensors if x is not block.shortcut)
            tensors = tensors | {id(product): tensors[id(block.branch)]}
        return super().visit(node, tensors)


class _Skipping(Copier):
    def __init__(self, blocks: list[Block]) -> None:
        super().__init__()
        self.blocks = {id(block.add): block for block in blocks}
        # What is left to the branches, with the product behind each of them.
        self.inside = {id(node) for block in blocks for node in block.nodes}

    def visit(self, node: Any, tensors: dict[int, Any]) -> list[Any]:
        if id(node) in self.inside:
            return [None] * len(node.outputs)
        if any(tensors[id(x)] is None for x in node.input_tensors) and id(node) not in self.blocks:
            return [None] * len(node.outputs)  # the product
        block = self.blocks.get(id(node))
        if block is None:
            return super().visit(node, tensors)
        skip = Skip(self.branch(block), dtype=block.shortcut.dtype, name=block.name)
        return [skip([tensors[id(block.shortcut)], tensors[id(block.decision)]])]

    def branch(self, block: Block) -> keras.Model:
        """The branch as a model of its own."""
        start = keras.Input(
            batch_shape=(None, *block.shortcut.shape[1:]), dtype=block.shortcut.dtype
        )
        tensors = {id(block.shortcut): start}
        for node in block.nodes:
            outputs = super().visit(node, tensors)
            tensors.update((id(old), new) for old, new in zip(node.outputs, outputs, strict=True))
        return Functional(start, tensors[id(block.branch)], name=f"{block.name}_branch")
