"""What a multiply-accumulate takes on this machine, by kind of layer."""

from ptkeras.latency.measuring import (
    measure,
)

__all__ = [
    "measure",
]
