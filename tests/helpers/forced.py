"""A PruneTrain that always finds something to prune, so that tests need not train for long."""

import numpy as np

from ptkeras import PruneTrain
from ptkeras.importance import channel_magnitudes
from ptkeras.prunetrain.group_lasso import LassoSparsifier


class Forced(PruneTrain):
    """Takes a share of the channels at every reconfiguration, those with the smallest groups."""

    def __init__(self, share=0.3, **kwargs):
        super().__init__(**{"ratio": 0.5, "interval": 1, "verbose": 0} | kwargs)
        self._sparsifier.__class__ = _Weakest
        self._sparsifier.share = share


class _Weakest(LassoSparsifier):
    def keep(self, channel_map):
        self.scores = channel_magnitudes(channel_map, self.measure)
        free = np.flatnonzero(~channel_map.frozen & np.isfinite(self.scores))
        weakest = free[np.argsort(self.scores[free])][: int(len(free) * self.share)]
        self.threshold = float(self.scores[weakest].max(initial=0.0)) + 1e-9
        keep = np.ones(len(channel_map), bool)
        keep[weakest] = False
        return self.round_up(channel_map, keep, dead_ok=self.dead_branches)
