"""The theory of signal propagation, for any activation and without a framework.

sigma_w2 and sigma_b2 are variances (of weights times fan-in, and of biases), q is a second moment of
pre-activations, c a cosine.
"""

from fanin.theory.criticality import critical, fixed_points, universality
from fanin.theory.depth import depth_scales, trainable_depth
from fanin.theory.diagram import phase_diagram
from fanin.theory.gains import gain
from fanin.theory.kernels import kernel, ntk
from fanin.theory.maps import chi, correlation_map, moments, variance_map
from fanin.theory.propagation import Layer, finite_width, propagate
from fanin.theory.scaling import MUP, deepnorm, fixup, gpt2, t_fixup
from fanin.theory.spectra import jacobian_spectrum

__all__ = [
    "MUP",
    "Layer",
    "chi",
    "correlation_map",
    "critical",
    "deepnorm",
    "depth_scales",
    "finite_width",
    "fixed_points",
    "fixup",
    "gain",
    "gpt2",
    "jacobian_spectrum",
    "kernel",
    "moments",
    "ntk",
    "phase_diagram",
    "propagate",
    "t_fixup",
    "trainable_depth",
    "universality",
    "variance_map",
]
