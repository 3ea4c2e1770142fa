"""What a model costs: multiply-accumulates, parameters, memory and communication."""

from ptkeras.cost.summary import (
    Call,
    Cost,
    LayerCost,
    activation_memory,
    batch_norm_bytes,
    gradient_bytes,
    inference_flops,
    layer_costs,
    macs,
    params,
    register,
    summarise,
    training_flops,
    training_memory,
)

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
