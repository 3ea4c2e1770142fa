"""A PruneTrain that always finds something to prune, so that tests need not train for long."""

import numpy as np

from ptkeras import PruneTrain
from ptkeras.importance import channel_magnitudes


class Forced(PruneTrain):
    """Takes a share of the channels at every reconfiguration, those with the smallest groups."""

    def __init__(self, share=0.3, **kwargs):
        super().__init__(**{"ratio": 0.5, "interval": 1, "verbose": 0} | kwargs)
        self.share = share

    def _decide(self):
        self._scores = channel_magnitudes(self._map, self.measure)
        free = np.flatnonzero(~self._map.frozen & np.isfinite(self._scores))
        weakest = free[np.argsort(self._scores[free])][: int(len(free) * self.share)]
        self.threshold = float(self._scores[weakest].max(initial=0.0)) + 1e-9
        keep = np.ones(len(self._map), bool)
        keep[weakest] = False
        return self._round_up(keep, dead_ok=self.remove_dead_branches)
