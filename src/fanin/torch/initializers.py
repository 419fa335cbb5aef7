"""`torch.nn.init` with fanin's draws: the same names and signatures, and the laws that it lacks.

Every function takes, besides its own parameters:

- ``generator``: as in PyTorch. One call takes 64 bits from it, the seed of the draw.
- ``seed`` and ``name``: instead of a generator, so that the values are those of ``fanin.sample``.
- ``module``: the module that owns the tensor. Then fans are right where the shape alone misleads
  (transposed and grouped convolutions, packed attention, gates of recurrent layers).
- ``axes``, ``gates``, ``groups``: the same said by hand.

A tensor on the meta device is returned as it is; one of a low precision is rounded from float32.
"""

import math
import warnings
from collections.abc import Callable
from typing import Any, Unpack

from torch import Generator, Tensor

from fanin.errors import InvalidValueError
from fanin.initializers import INITIALIZERS, Fans, canonical, decide
from fanin.records import Init
from fanin.torch.apply import Options, apply_, check_fans, check_tensor, number
from fanin.torch.gains import Nonlinearity, calculate_gain

__all__ = [
    "calculate_gain",
    "constant",
    "constant_",
    "delta_orthogonal_",
    "dirac",
    "dirac_",
    "eye",
    "eye_",
    "fan_in_uniform_",
    "glorot_normal_",
    "glorot_uniform_",
    "hadamard_",
    "he_normal_",
    "he_uniform_",
    "initialize_",
    "kaiming_normal",
    "kaiming_normal_",
    "kaiming_uniform",
    "kaiming_uniform_",
    "lecun_normal_",
    "lecun_uniform_",
    "mirrored_",
    "normal",
    "normal_",
    "ones_",
    "orthogonal",
    "orthogonal_",
    "scaled_orthogonal_",
    "sinusoidal_",
    "sparse",
    "sparse_",
    "stft_",
    "trunc_normal_",
    "truncated_normal_",
    "uniform",
    "uniform_",
    "variance_scaling_",
    "xavier_normal",
    "xavier_normal_",
    "xavier_uniform",
    "xavier_uniform_",
    "zeros_",
]


def uniform_(
    tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None, **options: Unpack[Options]
) -> Tensor:
    """Uniform between `a` and `b`."""
    words = {"minval": "a", "maxval": "b"}
    return apply_(tensor, "uniform_", "random_uniform", {"minval": a, "maxval": b}, generator, words, **options)


def normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None, **options: Unpack[Options]
) -> Tensor:
    """Normal with this mean and standard deviation.

    Example:
        >>> import fanin, torch
        >>> weight = normal_(torch.empty(3, 2), seed=0)
        >>> bool((weight.T.numpy() == fanin.sample("random_normal(stddev=1.0)", (2, 3), seed=0)).all())
        True
    """
    return apply_(tensor, "normal_", "random_normal", {"mean": mean, "stddev": std}, generator, _STD, **options)


def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator | None = None,
    **options: Unpack[Options],
) -> Tensor:
    """Normal cut at the absolute values `a` and `b`; exact for any of them, in any precision.

    Raises:
        InvalidValueError: If `std` is not above 0, or the bounds hold no probability.
    """
    given = f"mean={mean}, std={std}, a={a}, b={b}"
    try:
        mean, std, a, b = (number(value) for value in (mean, std, a, b))
        low, high = (a - mean) / std, (b - mean) / std
        if not (std > 0 and math.isfinite(mean) and math.isfinite(std)):
            raise ValueError(given)
    except (TypeError, ValueError, ArithmeticError):
        raise InvalidValueError(
            "trunc_normal_ takes numbers", given=given, allowed="a finite mean, a finite std above 0, and bounds"
        ) from None
    params = {"mean": mean, "stddev": std, "lower": low, "upper": high}
    try:
        decide(canonical(Init("truncated_normal", **params)), Fans(1, 1))
    except InvalidValueError:
        raise InvalidValueError(
            "The bounds of trunc_normal_ hold no probability",
            given=given,
            allowed="a below b, not both far from the mean",
        ) from None
    return apply_(tensor, "trunc_normal_", "truncated_normal", params, generator, **options)


_STD = {"stddev": "std"}
"""What PyTorch calls the standard deviation."""


def constant_(tensor: Tensor, val: float, **options: Unpack[Options]) -> Tensor:
    """The same value everywhere."""
    return apply_(tensor, "constant_", "constant", {"value": val}, words={"value": "val"}, **options)


def ones_(tensor: Tensor, **options: Unpack[Options]) -> Tensor:
    """All 1."""
    return apply_(tensor, "ones_", "ones", {}, **options)


def zeros_(tensor: Tensor, **options: Unpack[Options]) -> Tensor:
    """All 0."""
    return apply_(tensor, "zeros_", "zeros", {}, **options)


def eye_(tensor: Tensor, **options: Unpack[Options]) -> Tensor:
    """Ones on the diagonal of a matrix."""
    return apply_(tensor, "eye_", "identity", {}, words={"dirac": "dirac_"}, **options)


def dirac_(tensor: Tensor, groups: int = 1, **options: Any) -> Tensor:
    """A convolution that passes its input on, group by group; the centre of an even kernel is ``k // 2``."""
    if isinstance(tensor, Tensor) and not 3 <= tensor.dim() <= 5:
        raise InvalidValueError("dirac_ does not fit this shape", given=tuple(tensor.shape), allowed="3, 4 or 5 axes")
    if options.get("module") is None or groups != 1:
        options["groups"] = groups
    return apply_(tensor, "dirac_", "dirac", {"centre": "upper"}, **options)


def _scaled_(
    tensor: Tensor,
    call: str,
    gain: float,
    mode: str,
    distribution: str,
    generator: Generator | None,
    options: Options,
) -> Tensor:
    """variance_scaling by a gain; a gain of 0 gives zeros."""
    check_tensor(tensor, call)
    check_fans(tensor, call)
    gain = number(gain)
    if isinstance(gain, bool) or not isinstance(gain, int | float) or not math.isfinite(gain * gain):
        raise InvalidValueError(f"The gain of {call} is not a finite number", given=gain)
    if gain * gain == 0:
        return apply_(tensor, call, "zeros", {}, **options)
    params = {"scale": gain * gain, "mode": mode, "distribution": distribution}
    return apply_(tensor, call, "variance_scaling", params, generator, **options)


def xavier_uniform_(
    tensor: Tensor, gain: float = 1.0, generator: Generator | None = None, **options: Unpack[Options]
) -> Tensor:
    """Uniform, variance ``2 gain**2 / (fan_in + fan_out)`` (Glorot and Bengio 2010)."""
    return _scaled_(tensor, "xavier_uniform_", gain, "fan_avg", "uniform", generator, options)


def xavier_normal_(
    tensor: Tensor, gain: float = 1.0, generator: Generator | None = None, **options: Unpack[Options]
) -> Tensor:
    """Normal, variance ``2 gain**2 / (fan_in + fan_out)`` (Glorot and Bengio 2010)."""
    return _scaled_(tensor, "xavier_normal_", gain, "fan_avg", "untruncated_normal", generator, options)


def _kaiming_(
    tensor: Tensor,
    call: str,
    a: float,
    mode: str,
    nonlinearity: Nonlinearity,
    distribution: str,
    generator: Generator | None,
    options: Options,
) -> Tensor:
    mode = mode.lower() if isinstance(mode, str) else mode
    gain = calculate_gain(nonlinearity, a)
    if isinstance(tensor, Tensor) and not tensor.numel():
        warnings.warn("Initializing zero-element tensors is a no-op", stacklevel=3)
        return tensor
    return _scaled_(tensor, call, gain, mode, distribution, generator, options)


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: Nonlinearity = "leaky_relu",
    generator: Generator | None = None,
    **options: Unpack[Options],
) -> Tensor:
    """Uniform, variance ``gain**2 / fan`` with the gain of any activation (He et al. 2015).

    Args:
        tensor: What to fill.
        a: The slope below zero of leaky_relu.
        mode: ``fan_in``, ``fan_out``, ``fan_avg`` or ``fan_geo_avg``.
        nonlinearity: Whatever `calculate_gain` takes.
        generator: As in PyTorch.
        **options: See the head of this module.
    """
    return _kaiming_(tensor, "kaiming_uniform_", a, mode, nonlinearity, "uniform", generator, options)


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: Nonlinearity = "leaky_relu",
    generator: Generator | None = None,
    **options: Unpack[Options],
) -> Tensor:
    """Normal, variance ``gain**2 / fan`` with the gain of any activation (He et al. 2015).

    Example:
        >>> import torch
        >>> up = torch.nn.ConvTranspose2d(64, 8, 3)
        >>> _ = kaiming_normal_(up.weight, nonlinearity="relu", module=up, seed=0)
        >>> round(float(up.weight.detach().var() * 64 * 9), 1)  # the fan-in of a transposed convolution
        2.0
    """
    return _kaiming_(tensor, "kaiming_normal_", a, mode, nonlinearity, "untruncated_normal", generator, options)


def orthogonal_(
    tensor: Tensor, gain: float = 1, generator: Generator | None = None, **options: Unpack[Options]
) -> Tensor:
    """Orthonormal rows or columns, times a gain; one matrix for each gate and group."""
    return apply_(tensor, "orthogonal_", "orthogonal", {"gain": gain}, generator, **options)


def sparse_(
    tensor: Tensor,
    sparsity: float,
    std: float = 0.01,
    generator: Generator | None = None,
    **options: Unpack[Options],
) -> Tensor:
    """Normal, with a share `sparsity` of each column set to zero.

    The columns of a Linear's weight are its inputs. Given ``module=`` or ``axes=``, the inputs of each *unit*
    are thinned out instead, which is the rule of the paper (Martens 2010).
    """
    if isinstance(tensor, Tensor) and tensor.dim() != 2:
        raise InvalidValueError("sparse_ does not fit this shape", given=tuple(tensor.shape), allowed="two axes")
    if options.get("module") is None and options.get("axes") is None:
        options["axes"] = ("in", "out")
    return apply_(tensor, "sparse_", "sparse", {"sparsity": sparsity, "stddev": std}, generator, _STD, **options)


def initialize_(tensor: Tensor, init: str | Init, **options: Unpack[Options]) -> Tensor:
    """Any initializer of fanin's table, by its name, its text or an `Init`.

    Example:
        >>> import torch
        >>> _ = initialize_(torch.empty(4, 4), "variance_scaling(activation='gelu')", seed=0)
    """
    call = canonical(init)
    return apply_(tensor, "initialize_", call.name, call.params, **options)


def _named(name: str) -> Callable[..., Tensor]:
    """A function that fills a tensor by one entry of the table; its parameters are taken by keyword."""
    entry = INITIALIZERS[name]
    scales = not entry.parameters or "mode" in entry.parameters

    def function(tensor: Tensor, **given: Any) -> Tensor:
        check_tensor(tensor, f"{name}_")
        if scales:
            check_fans(tensor, f"{name}_")
        params = {key: given.pop(key) for key in entry.parameters if key in given}
        return apply_(tensor, f"{name}_", name, params, **given)

    function.__name__ = function.__qualname__ = f"{name}_"
    function.__doc__ = (
        f"{entry.summary}\n\nSource: {entry.source}. Parameters: {', '.join(entry.parameters) or 'none'}."
    )
    return function


delta_orthogonal_ = _named("delta_orthogonal")
fan_in_uniform_ = _named("fan_in_uniform")
glorot_normal_ = _named("glorot_normal")
glorot_uniform_ = _named("glorot_uniform")
hadamard_ = _named("hadamard")
he_normal_ = _named("he_normal")
he_uniform_ = _named("he_uniform")
lecun_normal_ = _named("lecun_normal")
lecun_uniform_ = _named("lecun_uniform")
mirrored_ = _named("mirrored")
scaled_orthogonal_ = _named("scaled_orthogonal")
sinusoidal_ = _named("sinusoidal")
stft_ = _named("stft")
truncated_normal_ = _named("truncated_normal")
variance_scaling_ = _named("variance_scaling")


def _deprecated(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """PyTorch's old name without the underscore, which warns as PyTorch's does."""
    new = function.__name__
    old = new.removesuffix("_")

    def alias(*args: Any, **kwargs: Any) -> Tensor:
        warnings.warn(f"`{old}` is now deprecated in favor of `{new}`.", FutureWarning, stacklevel=2)
        return function(*args, **kwargs)

    alias.__name__ = alias.__qualname__ = old
    alias.__doc__ = f"The old name of `{new}`."
    return alias


constant = _deprecated(constant_)
dirac = _deprecated(dirac_)
eye = _deprecated(eye_)
kaiming_normal = _deprecated(kaiming_normal_)
kaiming_uniform = _deprecated(kaiming_uniform_)
normal = _deprecated(normal_)
orthogonal = _deprecated(orthogonal_)
sparse = _deprecated(sparse_)
uniform = _deprecated(uniform_)
xavier_normal = _deprecated(xavier_normal_)
xavier_uniform = _deprecated(xavier_uniform_)
