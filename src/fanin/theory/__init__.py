"""The theory of signal propagation: what an activation does to the size of a signal."""

from fanin.theory.gains import gain

__all__ = ["gain"]
