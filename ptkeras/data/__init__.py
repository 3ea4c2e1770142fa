"""Real data for the networks: the embedded digits, and everything that TFDS has."""

from ptkeras.data.dataset import Dataset
from ptkeras.data.epoch_seed import EpochSeed
from ptkeras.data.pipeline import load
from ptkeras.data.shard import Shard

__all__ = ["Dataset", "EpochSeed", "Shard", "load"]
