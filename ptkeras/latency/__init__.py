"""What a multiply-accumulate takes on this machine, by kind of layer."""

from ptkeras.latency.measuring import measure
from ptkeras.latency.multiple import preferred_multiple

__all__ = ["measure", "preferred_multiple"]
