"""What a model costs: multiply-accumulates, parameters, memory and communication.

All of it is read from the graph of the model, nested models and layers that hold layers included;
of a model whose `call` is Python code, from what that calls. The model neither runs nor changes.

```python
ptkeras.cost.summarise(model, batch_size=128)
for layer in ptkeras.cost.layer_costs(model):
    print(layer.name, layer.macs, layer.params)
```

Convolutions and matrix products are counted, in every layer that makes them; what is done element
by element (activations, normalisation, pooling, biases, softmax) counts 0. That is the convention
of the field, and of the PruneTrain authors' `calc_cost.py`. One multiply-accumulate (MAC) is two
floating point operations (FLOPs).
"""

import math
from dataclasses import dataclass
from typing import Any

import keras

from ptkeras.cost.calls import Call, calls
from ptkeras.cost.mac_rules import register
from ptkeras.cost.macs import macs as _count
from ptkeras.cost.memory import activation_bytes, norm_bytes, state_bytes, variable_bytes
from ptkeras.utils.models import check_model

__all__ = [
    "Call",
    "Cost",
    "LayerCost",
    "activation_memory",
    "batch_norm_bytes",
    "gradient_bytes",
    "inference_flops",
    "layer_costs",
    "macs",
    "params",
    "register",
    "summarise",
    "training_flops",
    "training_memory",
]


@dataclass(frozen=True)
class LayerCost:
    """The cost of one call of one layer, or of one `keras.ops` operation, for one example.

    Attributes:
        name: The layer's name, after those of the models and layers that it is in:
            `encoder/conv_1`.
        kind: Name of the layer's class.
        macs: Multiply-accumulates of the forward pass.
        params: Number of parameters, those that an earlier row has counted left out, so that the
            rows sum to the model's.
        output_elements: Number of elements that it returns.
        output_shape: Shape of its (first) output without the batch axis.
    """

    name: str
    kind: str
    macs: int
    params: int
    output_elements: int
    output_shape: tuple[int, ...]


@dataclass(frozen=True)
class Cost:
    """The figures of a whole model, as the functions of the same names return them.

    Attributes:
        inference_flops: FLOPs of one forward pass, per example.
        training_flops: FLOPs of one training step, per example.
        params: Number of parameters.
        activation_memory: Bytes of activations kept for the backward pass of a step.
        training_memory: Bytes that a training step needs.
        batch_norm_bytes: Bytes that batch normalisation moves in a training step.
    """

    inference_flops: int
    training_flops: int
    params: int
    activation_memory: int
    training_memory: int
    batch_norm_bytes: int


def summarise(model: keras.Model, batch_size: int = 1, input_shape: Any = None) -> Cost:
    """All figures of a model at once.

    Args:
        model: A built model of any kind.
        batch_size: Examples in a training step, for the figures in bytes.
        input_shape: Shape of one example, as in `layer_costs`.

    Returns:
        The figures.

    Raises:
        ValueError: As `layer_costs` does, or if the batch size is under 1.
    """
    _check_batch_size(batch_size)
    found, batch = calls(model, input_shape)
    forward = 2 * (sum(_count(found)) // batch)
    activations = activation_bytes(found) * batch_size // batch
    return Cost(
        inference_flops=forward,
        training_flops=3 * forward,
        params=params(model),
        activation_memory=activations,
        training_memory=activations + state_bytes(model),
        batch_norm_bytes=norm_bytes(found) * batch_size // batch,
    )


def layer_costs(model: keras.Model, input_shape: Any = None) -> list[LayerCost]:
    """The cost of every layer call in a model, in the order of the graph.

    A layer or nested model that is called twice has its rows twice, and its parameters in the
    first. A wrapper's row (`TimeDistributed`, `Bidirectional`) comes after those of what it wraps.

    With |y| the elements of the output per example, |x| those of the input, k the kernel's spatial
    size and c the channels, the MACs of a forward pass are

        convolution            |y| · k · c_in / groups
        depthwise              |y| · k
        separable              |y| / c_out · c_in · multiplier · (k + c_out)
        transposed             |x| · k · c_out
        dense, matmul          |y| · c_in
        einsum                 the product of the sizes of all its labels
        attention              projections + targets · sources · heads · (c_key + c_value)
        recurrent              steps · positions · the sizes of the cell's matrices

    Products with the zeros of padding count, as does the masked half of causal attention.

    Args:
        model: A built model of any kind.
        input_shape: Shape of one example, without the batch axis, such as `(224, 224, 3)`; needed
            where the model leaves sizes open. A list of shapes, in the order of `model.inputs`, for
            a model of several inputs.

    Returns:
        A row for each call.

    Raises:
        ValueError: If it is no model of Keras or not built, if its code cannot be seen through, if
            it leaves sizes open and no `input_shape` is given, or if a layer cannot take the given
            one.

    Warns:
        UserWarning: Once, naming the layers that have a matrix of weights but no rule; they count 0
            until `register` gives them one.
    """
    found, batch = calls(model, input_shape)
    counted: set[int] = set()
    return [
        LayerCost(
            name=call.name,
            kind=type(call.operation).__name__,
            macs=count // batch,
            params=_new_params(call, counted),
            output_elements=sum(map(math.prod, call.outputs)) // batch,
            output_shape=_without_batch(call.outputs[0], batch),
        )
        for call, count in zip(found, _count(found), strict=True)
    ]


def macs(model: keras.Model, input_shape: Any = None) -> int:
    """Multiply-accumulates of one forward pass, per example: the sum over `layer_costs`.

    Args:
        model: A built model of any kind.
        input_shape: Shape of one example, as in `layer_costs`.

    Returns:
        The number of MACs.

    Raises:
        ValueError: As `layer_costs` does.
    """
    found, batch = calls(model, input_shape)
    return sum(_count(found)) // batch


def inference_flops(model: keras.Model, input_shape: Any = None) -> int:
    """FLOPs of one forward pass, per example: 2 · MACs.

    Args:
        model: A built model of any kind.
        input_shape: Shape of one example, as in `layer_costs`.

    Returns:
        The number of FLOPs.

    Raises:
        ValueError: As `layer_costs` does.
    """
    return 2 * macs(model, input_shape)


def training_flops(model: keras.Model, input_shape: Any = None) -> int:
    """FLOPs of one training step, per example: 3 · inference FLOPs.

    The forward pass, the gradient to the inputs and the gradient to the weights are one product of
    the same size each (PruneTrain, Lym et al. 2019, sec. 5: the authors' `calc_cost.py` adds up
    forward, DGRAD and WGRAD). The first layer's gradient to its input counts too, although nobody
    asks for it: the authors and the field count so (in ResNet-50 it is 1 % of the whole), and
    ratios between a model and its pruned self hardly feel it. For strided convolutions the authors
    take DGRAD over the padded input; here it is what it computes, the size of the forward pass.

    Args:
        model: A built model of any kind.
        input_shape: Shape of one example, as in `layer_costs`.

    Returns:
        The number of FLOPs; times the examples of an epoch, what an epoch costs.

    Raises:
        ValueError: As `layer_costs` does.
    """
    return 3 * inference_flops(model, input_shape)


def params(model: keras.Model) -> int:
    """Number of parameters, each counted once however many layers share it.

    That is `model.count_params()`: trainable weights and those that are not, such as the moving
    statistics of batch normalisation; seeds and optimizer slots left out.

    Args:
        model: A built model.

    Returns:
        The number of parameters.

    Raises:
        ValueError: If the model is not built.
    """
    check_model(model)
    return model.count_params()


def activation_memory(model: keras.Model, batch_size: int, input_shape: Any = None) -> int:
    """Bytes of activations that a training step keeps for its backward pass.

        batch size · Σ elements(t) · bytes(dtype of t),  t over the tensors that are kept

    A tensor is kept, once, if a backward pass reads it: the inputs of convolutions, dense layers,
    batch normalisation, products and maximum pooling; the outputs of ReLU, sigmoid, tanh, softmax
    and of dropout, for its mask; neither for sums, concatenation, padding, average pooling and
    reshapes. What comes before the first trainable layer needs no backward pass. Bytes are by the
    layer's compute dtype. No operation is taken to be fused or to work in place, and what a
    recurrent or an attention layer keeps inside itself is left out.

    This is the memory that shrinks as channels go, and that dynamic mini-batch adjustment fills up
    again (PruneTrain, Lym et al. 2019, sec. 4.3).

    Args:
        model: A built model of any kind.
        batch_size: Examples in a training step.
        input_shape: Shape of one example, as in `layer_costs`.

    Returns:
        The number of bytes.

    Raises:
        ValueError: As `layer_costs` does, or if the batch size is under 1.
    """
    _check_batch_size(batch_size)
    found, batch = calls(model, input_shape)
    return activation_bytes(found) * batch_size // batch


def training_memory(model: keras.Model, batch_size: int, input_shape: Any = None) -> int:
    """Bytes that a training step needs.

        activations + weights + gradients + optimizer slots

    Activations as in `activation_memory`; weights with those that are not trainable; a gradient of
    the size of each trainable weight; the variables of the model's optimizer, or, before it has
    any, one slot of momentum for each trainable weight. Workspace of convolutions is left out.

    Args:
        model: A built model of any kind.
        batch_size: Examples in a training step.
        input_shape: Shape of one example, as in `layer_costs`.

    Returns:
        The number of bytes.

    Raises:
        ValueError: As `layer_costs` does, or if the batch size is under 1.
    """
    return activation_memory(model, batch_size, input_shape) + state_bytes(model)


def batch_norm_bytes(model: keras.Model, batch_size: int, input_shape: Any = None) -> int:
    """Bytes that batch normalisation moves to and from memory in a training step.

        8 · batch size · Σ elements(x) · bytes(dtype of x),  x over the inputs of its calls

    Forward 3 accesses an element: read x for the statistics, read x to normalise, write y.
    Backward 5: read x and dy for the sums, read x and dy again, write dx. (PruneTrain, Lym et al.
    2019, sec. 5, and the authors' `calc_cost.py`.) A frozen layer takes 4 in place of 8: it reads x
    and writes y, reads dy and writes dx. The vectors of one number a channel are left out.

    Args:
        model: A built model of any kind.
        batch_size: Examples in a training step.
        input_shape: Shape of one example, as in `layer_costs`.

    Returns:
        The number of bytes.

    Raises:
        ValueError: As `layer_costs` does, or if the batch size is under 1.
    """
    _check_batch_size(batch_size)
    found, batch = calls(model, input_shape)
    return norm_bytes(found) * batch_size // batch


def gradient_bytes(model: keras.Model, workers: int) -> int:
    """Bytes of gradients that each data-parallel worker sends in a step, and as many it receives.

        2 · (n - 1) / n · Σ elements(w) · bytes(dtype of w),  w over the trainable weights

    for n workers in a ring all-reduce: a reduce-scatter and an all-gather, of n - 1 messages of
    1/n of the gradient each (Patarasu and Yuan 2009, "Bandwidth optimal all-reduce algorithms for
    clusters of workstations").

    Args:
        model: A built model.
        workers: Number of workers, n.

    Returns:
        The number of bytes, rounded up; 0 for one worker.

    Raises:
        ValueError: If the number of workers is under 1.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1; received {workers}.")
    check_model(model)
    return -(-2 * (workers - 1) * variable_bytes(model.trainable_variables) // workers)


def _new_params(call: Call, counted: set[int]) -> int:
    new = {id(w): w for w in call.weights if id(w) not in counted}
    counted.update(new)
    return sum(math.prod(w.shape) for w in new.values())


def _without_batch(shape: tuple[int, ...], batch: int) -> tuple[int, ...]:
    """The shape for one example; an axis that was folded into the batch's comes out in front."""
    if not shape or shape[0] == batch:
        return shape[1:]
    return (shape[0] // batch, *shape[1:])


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1; received {batch_size}.")
