"""The kernels of infinitely wide networks, layer by layer: of the Gaussian process, and of training.

Sources: Lee et al. 2018 (arXiv:1711.00165); Jacot et al. 2018 (arXiv:1806.07572). Both inputs have the same
second moment, as after any normalisation of the data.
"""

from dataclasses import dataclass

from fanin.activations import activation
from fanin.errors import InvalidValueError
from fanin.theory.maps import (
    Function,
    check_cosine,
    check_q,
    check_variance,
    deficit_map,
    deficit_slope,
    moments_many,
)

__all__ = ["Kernel", "kernel", "ntk"]


@dataclass(frozen=True)
class Kernel:
    """Values by layer, the first layer's pre-activations first.

    Attributes:
        diagonal: Of an input with itself.
        off: Of two inputs with each other.
    """

    diagonal: tuple[float, ...]
    off: tuple[float, ...]

    @property
    def cosine(self) -> tuple[float, ...]:
        """The ratio of the two."""
        return tuple(o / d for o, d in zip(self.off, self.diagonal, strict=True))


def kernel(given: Function, depth: int, c: float, q: float, sigma_w2: float, sigma_b2: float = 0.0) -> Kernel:
    """The covariance of pre-activations in each of `depth` layers.

    Args:
        given: A name, or any vectorised function.
        depth: Number of layers, the first included.
        c: Cosine of the first layer's pre-activations for two inputs.
        q: Their second moment.
        sigma_w2, sigma_b2: Variances of weights (times fan-in) and biases.

    Example:
        >>> [round(value, 4) for value in kernel("relu", 3, 0.0, 1.0, 2.0).cosine]
        [0.0, 0.3183, 0.4937]
    """
    found, _ = _recursion(given, depth, c, q, sigma_w2, sigma_b2)
    return found


def ntk(given: Function, depth: int, c: float, q: float, sigma_w2: float, sigma_b2: float = 0.0) -> Kernel:
    """The neural tangent kernel of each depth, weights counted in the parametrisation that scales them by fans.

    Example:
        >>> deep = ntk("relu", 200, 0.0, 1.0, 2.0)  # off the diagonal a quarter is left at the edge of chaos
        >>> 0.2 < deep.cosine[-1] < 0.35
        True
    """
    _, found = _recursion(given, depth, c, q, sigma_w2, sigma_b2)
    return found


def _recursion(
    given: Function, depth: int, c: float, q: float, sigma_w2: float, sigma_b2: float
) -> tuple[Kernel, Kernel]:
    entry, q = activation(given), check_q(q)
    sigma_w2, sigma_b2 = check_variance(sigma_w2, "sigma_w2"), check_variance(sigma_b2, "sigma_b2")
    if not hasattr(depth, "__index__") or depth < 1:
        raise InvalidValueError("The depth is out of range", given=depth, allowed="1 or more")
    c = check_cosine(c)
    deficit, tangent, across = 1 - c, q, q * c
    kernels, tangents = [(q, q * c)], [(tangent, across)]
    for _ in range(depth - 1):
        here = moments_many(entry, q)
        straight = float(sigma_w2 * here["slope_second"][0])
        bent = deficit_slope(entry, deficit, q, sigma_w2) if deficit else straight
        size = float(sigma_w2 * here["second"][0]) + sigma_b2
        deficit = min(2.0, deficit_map(entry, deficit, q, sigma_w2) * q / size) if size else 0.0
        q = size
        if q <= 0:
            raise InvalidValueError("The signal dies", given=f"sigma_w2={sigma_w2}, sigma_b2={sigma_b2}")
        tangent, across = q + straight * tangent, q * (1 - deficit) + bent * across
        kernels.append((q, q * (1 - deficit)))
        tangents.append((tangent, across))
    as_kernel = [Kernel(tuple(d for d, _ in pairs), tuple(o for _, o in pairs)) for pairs in (kernels, tangents)]
    return as_kernel[0], as_kernel[1]
