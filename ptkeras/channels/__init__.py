"""Which slices of which variables are one channel: reads models, never changes one."""

from ptkeras.channels.channel_map import ChannelMap, Slice
from ptkeras.channels.registry import register
from ptkeras.channels.trace import trace

__all__ = ["ChannelMap", "Slice", "register", "trace"]
