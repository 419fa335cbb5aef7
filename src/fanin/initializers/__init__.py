"""Initializers as data, fans from named axes, and random numbers keyed by name."""

from fanin.initializers.draws import draw_param, sample
from fanin.initializers.fans import Fans, fans
from fanin.initializers.fills import fill
from fanin.initializers.specs import canonical, decide, deserialize, parse_call, serialize
from fanin.initializers.table import INITIALIZERS

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
