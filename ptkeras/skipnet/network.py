"""SkipNet: a residual network whose blocks have gates."""

from __future__ import annotations

import functools
from typing import Any, Literal

import keras
from keras import ops

from ptkeras.channels.functional import leaf_graph
from ptkeras.channels.graph import functional_of
from ptkeras.keras_compat.trainers import user_loss
from ptkeras.skipnet.blocks import Block, gated_blocks, residual_blocks
from ptkeras.skipnet.copying import Copier
from ptkeras.skipnet.gates import GATES, Gate, Maker
from ptkeras.skipnet.layers import Mode, Switch
from ptkeras.surgery.functions import refresh_functions
from ptkeras.utils.arguments import check_number


@keras.saving.register_keras_serializable("ptkeras")
class SkipNet(keras.Model):
    """A network with gates, as `add_gates` makes it; a Functional model.

    It starts with hard gates, so that `fit` is supervised pre-training; `reinforce` changes that to
    hybrid reinforcement learning. At inference a branch counts where its gate's logit is over 0.
    All branches are computed all the same: `skipping`, and the ONNX export, leave them out.

    A file of it needs `import ptkeras.skipnet` to be loaded, and then is where it was, with hard
    gates; `plain` makes a network that needs nothing.
    """

    @property
    def switches(self) -> list[Switch]:
        """The layers that decide, in the order of the blocks."""
        return [layer for layer in self.layers if isinstance(layer, Switch)]

    def pretrain(self, gates: Literal["hard", "soft"] = "hard") -> None:
        """From the next step on: supervised pre-training, by the loss alone.

        Args:
            gates: "hard", 0 or 1 with the gradient of the probability behind it; or "soft", the
                probability itself.
        """
        if gates not in ("hard", "soft"):
            raise ValueError(f'gates must be "hard" or "soft"; received {gates!r}.')
        self._set_mode(gates)

    def open_gates(self) -> None:
        """From the next step on, all branches run, at inference too: the network without gates."""
        self._set_mode("open")

    def reinforce(self, alpha: float = 0.1, gamma: float = 1.0, rl_weight: float = 0.1) -> None:
        """From the next step on: hybrid reinforcement learning.

        Actions are drawn, and to the loss comes that of `policy_loss`, a mean over the images of a
        batch, times `rl_weight`. In the authors' code it is 0.01 times the sum over 128 images in
        `cifar/train_rl.py`, 1.28 here, with these defaults for alpha and gamma; and 0.01 times the
        mean in `imagenet/train_rl.py`, which has an alpha of 0.01 and scales the loss in the
        rewards by α/N as well. The default lies between the two.

        Args:
            alpha: the reward for skipping all blocks, from 0.
            gamma: the discount of later rewards, from 0 to 1.
            rl_weight: what the policy's loss is multiplied by, over 0.
        """
        for name, value, right, wanted in (
            ("alpha", alpha, lambda x: x >= 0, "a number from 0, and finite"),
            ("gamma", gamma, lambda x: 0 <= x <= 1, "a number from 0 to 1"),
            ("rl_weight", rl_weight, lambda x: x > 0, "a number over 0, and finite"),
        ):
            check_number(f"{name} of SkipNet", value, right, wanted)
        self._rewards = alpha, gamma, rl_weight
        self._set_mode("sample")

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """The loss of `compile`, and that of the policy while it is reinforced."""
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        switches = self.switches
        if not training or not switches or switches[0].mode != "sample":
            return loss
        alpha, gamma, rl_weight = self._rewards
        steps = [switch.taken() for switch in switches]
        logits, actions = (ops.concatenate(parts, axis=1) for parts in zip(*steps, strict=True))
        losses, weights = self._loss_of_each(y, y_pred, sample_weight)
        policy = policy_loss(logits, actions, losses, alpha, gamma, weights)
        return loss + rl_weight * policy

    def _loss_of_each(self, y: Any, y_pred: Any, sample_weight: Any) -> tuple[Any, Any]:
        """The loss of every image by itself, and its weight; None where all weigh alike."""
        loss, _ = user_loss(self)
        if loss is None or isinstance(loss, dict | list | tuple) or len(self.outputs) != 1:
            raise ValueError(
                f"'{self.name}' must be compiled with one loss, of one output, for its gates to be "
                "rewarded by it."
            )
        loss = keras.losses.get(loss)
        losses = getattr(loss, "call", loss)(ops.convert_to_tensor(y), y_pred)
        if len(losses.shape) == 0:
            raise ValueError(
                f"The loss of '{self.name}' must be a number for each image, for its gates to be "
                "rewarded by it; received one number for them all: leave the mean to Keras."
            )
        count = ops.shape(y_pred)[0]
        losses = ops.reshape(losses, (count, -1))
        if sample_weight is None:
            return ops.mean(losses, axis=1), None
        weights = ops.reshape(ops.cast(sample_weight, losses.dtype), (count, -1))
        mean = ops.mean(weights, axis=1)
        # Where an output has several positions, each with a weight of its own: their mean by those.
        return ops.divide_no_nan(ops.mean(weights * losses, axis=1), mean), mean

    def _set_mode(self, mode: Mode) -> None:
        for switch in self.switches:
            switch.mode = mode
        refresh_functions(self)


def policy_loss(
    logits: Any, actions: Any, losses: Any, alpha: float, gamma: float, weights: Any = None
) -> Any:
    """The loss whose gradient is REINFORCE's (SkipNet, hybrid reinforcement learning).

        -mean over images of weight · Σ_i R_i · log p(action_i),
        R_i = Σ_{j≥i} γ^(j-i) · α/N · (1 - action_j) - γ^(N-i+1) · loss,   i = 1 … N

    A gate answers for the rewards of the gates behind it, and for the loss.

    Args:
        logits: of shape `(batch, N)`, a gate's probability to run its branch being their sigmoid.
        actions: of the same shape, 1 where the branch has been run, else 0.
        losses: of shape `(batch,)`; nothing of them is differentiated.
        alpha: α, the reward for skipping all N blocks.
        gamma: γ, the discount.
        weights: what each image counts, of shape `(batch,)`, as in `fit`; None for 1.

    Returns:
        A scalar.
    """
    count = logits.shape[1]
    actions = ops.stop_gradient(actions)
    rewards = (1 - actions) * (alpha / count)
    following = -ops.stop_gradient(ops.cast(losses, logits.dtype))
    returns = []
    for place in reversed(range(count)):
        following = rewards[:, place] + gamma * following
        returns.append(following)
    log_likelihoods = -ops.softplus((1 - 2 * actions) * logits)
    total = ops.sum(ops.stack(returns[::-1], axis=1) * log_likelihoods, axis=1)
    return -ops.mean(total if weights is None else weights * total)


def add_gates(model: keras.Model, gate: Literal["ffgate1", "ffgate2", "rnn"] = "rnn") -> SkipNet:
    """Puts a gate on every residual block of a network.

    ```python
    network = ptkeras.skipnet.add_gates(model, gate="rnn")
    network.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    network.fit(x, y, epochs=10)  # supervised pre-training
    network.reinforce(alpha=0.1)
    network.fit(x, y, epochs=10)  # hybrid reinforcement learning
    fast = ptkeras.skipnet.skipping(network)
    ```

    A block is what adds a branch to its own input, as it is: those whose shortcut is a projection
    have no gate. Nested models are opened up. A model with layers of your own, or whose `call` is
    Python code, is first made what `ptkeras.as_functional(model)` returns. At first all gates are
    open, with a probability of 0.88, and the network computes what `model` does, bit for bit.

    Args:
        model: a built model of any kind; it is not changed.
        gate: "ffgate1", max pooling, two convolutions and a dense layer for each block; "ffgate2",
            one convolution; or "rnn", an LSTM that all blocks share.

    Returns:
        The network with gates, of layers of its own, not compiled.

    Raises:
        ValueError: there is no residual block, or there are gates already; the name of the gate is
            not known, or the code of the model cannot be seen through.
    """
    if gate not in GATES:
        raise ValueError(f"gate must be one of {', '.join(GATES)}; received {gate!r}.")
    opened = leaf_graph(model)
    flat = Copier().copy(model) if opened is model else opened
    if gated_blocks(flat):
        raise ValueError(
            f"'{model.name}' has gates already: ptkeras.skipnet.remove_gates takes them out."
        )
    blocks = residual_blocks(flat)
    if not blocks:
        raise ValueError(
            f"'{model.name}' has no residual block that could be skipped: a block's output must be "
            "the sum of what enters it, unchanged, and of a branch that reads nothing else."
        )
    return _Gating(flat, blocks, gate).copy(flat, SkipNet)


class _Gating(Copier):
    def __init__(self, model: keras.Model, blocks: list[Block], gate: str) -> None:
        super().__init__()
        self.blocks = {id(block.add): block for block in blocks}
        self.kind = gate
        self.maker = Maker(_data_format(model), _policy(blocks[0].shortcut), self.fresh_name)

    @functools.cached_property
    def gate(self) -> Gate:
        """Made at the first block, when the names of the graph are known."""
        return GATES[self.kind](self.maker)

    def visit(self, node: Any, tensors: dict[int, Any]) -> list[Any]:
        block = self.blocks.get(id(node))
        if block is None:
            return super().visit(node, tensors)
        branch = tensors[id(block.branch)]
        gated = self.gated(block.name, tensors[id(block.shortcut)], branch)
        return super().visit(node, tensors | {id(block.branch): gated})

    def gated(self, name: str, shortcut: Any, branch: Any) -> Any:
        logit = self.gate(shortcut, f"{name}_gate")
        decision = Switch(dtype="float32", name=self.fresh_name(f"{name}_switch"))(logit)
        shape = (1,) * (len(branch.shape) - 1)
        if len(shape) > 1:
            each = {"dtype": branch.dtype, "name": self.fresh_name(f"{name}_each")}
            decision = keras.layers.Reshape(shape, **each)(decision)
        gated = {"dtype": branch.dtype, "name": self.fresh_name(f"{name}_gated")}
        return keras.layers.Multiply(**gated)([decision, branch])


def _data_format(model: keras.Model) -> str:
    found = (getattr(op, "data_format", None) for op in functional_of(model).operations)
    return next(filter(None, found), keras.config.image_data_format())


def _policy(tensor: Any) -> str:
    """The dtype policy of layers that compute as what has made a tensor does."""
    half = tensor.dtype in ("float16", "bfloat16")
    return f"mixed_{tensor.dtype}" if half else tensor.dtype
