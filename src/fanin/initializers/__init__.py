"""Initializers as data, fans from named axes, and random numbers keyed by name."""

from fanin.initializers.fans import Fans, fans
from fanin.initializers.fills import draw_param, fill, sample
from fanin.initializers.specs import INITIALIZERS, canonical, decide, deserialize, parse_call, serialize

__all__ = [
    "INITIALIZERS",
    "Fans",
    "canonical",
    "decide",
    "deserialize",
    "draw_param",
    "fans",
    "fill",
    "parse_call",
    "sample",
    "serialize",
]
