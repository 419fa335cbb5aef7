"""Flax models read, measured and written: the verbs of an adapter."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from flax.core import unfreeze
from numpy.typing import NDArray

from fanin.errors import ModelError, unknown_name
from fanin.initializers.draws import draw_law, gate_factors, law_of
from fanin.initializers.laws import Draw
from fanin.initializers.streams import check_seed
from fanin.jax.calibration import factors_of
from fanin.jax.describe import describe
from fanin.jax.examples import examples
from fanin.jax.losses import USUAL, loss_function
from fanin.jax.models import flat_weights, nested_weights, parts_of, rebox, variables_of
from fanin.jax.probe import probe
from fanin.jax.setup import setup
from fanin.jax.trial import trial
from fanin.records import ParamInfo, Plan, PlanEntry

__all__ = [
    "USUAL",
    "calibrate",
    "calibrated",
    "describe",
    "examples",
    "fill",
    "filled",
    "loss_function",
    "probe",
    "scaling",
    "setup",
    "trial",
    "values",
    "write",
    "write_all",
]


def values(model: Any, path: str) -> NDArray[Any]:
    """A parameter's values, as float32 (or float64, if it is that).

    Raises:
        UnknownNameError: If the model has no such parameter.
    """
    arrays = parts_of(model).arrays
    if path not in arrays:
        raise unknown_name("parameter", path, arrays)
    array = np.asarray(arrays[path])
    return array if array.dtype == np.float64 else array.astype(np.float32)


def fill(model: nnx.Module, plan: Plan, progress: Callable[[int], None] | None = None) -> None:
    """Draw every entry of a plan that names an initializer into an nnx model; all of them, or none.

    Shards of a parameter are drawn one by one, where they lie. A parameter that is a shape alone, in a model made by
    `nnx.eval_shape`, becomes an array.

    Args:
        model: The model.
        plan: Its paths and shapes have to be the model's.
        progress: Told after each parameter how many elements more are done.

    Raises:
        ModelError: If it is a linen module, which cannot be changed; see `filled`.
        UnknownNameError, InvalidValueError, ModelError: If the plan does not fit the model; nothing is written.

    Example:
        >>> from fanin.records import Init
        >>> model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
        >>> fill(model, Plan((PlanEntry(describe(model).params[0], Init("ones"), "an example"),)))
        >>> values(model, "kernel").tolist()
        [[1.0, 1.0], [1.0, 1.0], [1.0, 1.0]]
    """
    _mutable(model, "fanin.jax.adapter.filled(model, plan)")
    write_all(model, _draws(parts_of(model).arrays, plan), progress)


def write(model: nnx.Module, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Set parameters of an nnx model by path; the others keep their values.

    Raises:
        ModelError: If it is a linen module, or an array has another shape than its parameter; nothing is written.
        UnknownNameError: If the model has no such parameter; nothing is written.

    Example:
        >>> model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
        >>> write(model, {"bias": np.ones(2, np.float32)})
        >>> values(model, "bias").tolist()
        [1.0, 1.0]
    """
    _mutable(model, "model.bind(variables)")
    own = parts_of(model).arrays
    for path, array in arrays.items():
        if path not in own:
            raise unknown_name("parameter", path, own)
        if array.shape != own[path].shape:
            raise ModelError(f"The array for {path} has another shape", given=array.shape, allowed=str(own[path].shape))
    write_all(model, {path: _replacing(array) for path, array in arrays.items()})


def _replacing(values: NDArray[Any]) -> Callable[[Any], Any]:
    """A change to these values, in the type and place of what was there."""
    return lambda array: jax.device_put(jnp.asarray(values, array.dtype), getattr(array, "sharding", None))


def filled(model: Any, plan: Plan) -> dict[str, Any]:
    """The variables of a bound linen module with every entry of a plan drawn; the module keeps its own.

    Raises:
        UnknownNameError, InvalidValueError, ModelError: If the plan does not fit the model.
    """
    arrays = parts_of(model).arrays
    return _variables(model, {path: draw(arrays[path]) for path, draw in _draws(arrays, plan).items()})


def calibrate(
    model: nnx.Module, example: Any, targets: Mapping[str, float], *, of: str = "second_moment"
) -> dict[str, float]:
    """Scale weights of an nnx model so that their outputs have a wanted moment, in executed order.

    Args:
        model: The model.
        example: As for `describe`, with real values.
        targets: The wanted moment, for each weight's path, of the output of the first step that uses it as a weight,
            without its bias.
        of: ``second_moment`` or ``variance``.

    Returns:
        The factor of each weight, in executed order. A tied embedding changes its own input, so the model is gone
        over until that has settled.

    Raises:
        ModelError: If the model is a linen module, or the output of a weight is all zero or not finite.
        UnknownNameError, InvalidValueError: If a path, a target or `of` cannot be.
    """
    _mutable(model, "calibrated(model, example, targets)")
    factors = factors_of(model, example, targets, of)
    write_all(model, {path: scaling(factor) for path, factor in factors.items()})
    return factors


def calibrated(
    model: Any, example: Any, targets: Mapping[str, float], *, of: str = "second_moment"
) -> tuple[dict[str, Any], dict[str, float]]:
    """`calibrate` for a bound linen module: its variables with the weights scaled, and the factors."""
    factors = factors_of(model, example, targets, of)
    arrays = parts_of(model).arrays
    return _variables(model, {path: scaling(factor)(arrays[path]) for path, factor in factors.items()}), factors


# ------------------------------------------------------------------------------------------------------- writing
def _mutable(model: Any, instead: str) -> None:
    """Refuse a model that cannot be written in place."""
    if not isinstance(model, nnx.Module):
        raise ModelError(
            "This model cannot be written in place",
            given=type(model).__name__,
            allowed="an nnx.Module",
            hint=f"For a bound linen module, {instead} gives new variables.",
        )


Change = Callable[[Any], Any]
"""From a parameter's array to the one that takes its place."""


def write_all(model: nnx.Module, changes: Mapping[str, Change], progress: Callable[[int], None] | None = None) -> None:
    """Change parameters; if one cannot be changed, those before it get their old values back."""
    variables = variables_of(model)
    before: dict[str, Any] = {}
    try:
        for path, change in changes.items():
            before[path] = variables[path].get_value()
            variables[path].set_value(change(before[path]))
            if progress is not None:
                progress(before[path].size)
    except BaseException:
        for path, array in before.items():
            variables[path].set_value(array)
        raise


def _variables(model: Any, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The variables of a bound linen module with these parameters in place of its own."""
    if isinstance(model, nnx.Module):
        raise ModelError("An nnx module is written in place", given=type(model).__name__, hint="Use fill or calibrate.")
    held: dict[str, Any] = unfreeze(dict(model.variables))
    boxes = flat_weights(held)
    keys = {"/".join(key): key for key in boxes}
    boxes.update({keys[path]: rebox(boxes[keys[path]], array) for path, array in arrays.items()})
    return {**held, "params": nested_weights(boxes)}


def scaling(factor: float) -> Change:
    """A change that multiplies a parameter."""
    return lambda array: (array * factor).astype(array.dtype)


def _draws(arrays: Mapping[str, Any], plan: Plan) -> dict[str, Change]:
    """What draws each chosen entry of a plan, after all of them were checked."""
    seed = check_seed(plan.seed)
    return {entry.param.path: _drawing(entry, arrays, seed) for entry in plan.chosen}


def _drawing(entry: PlanEntry, arrays: Mapping[str, Any], seed: int) -> Change:
    """What draws one entry, checked against the model's parameter."""
    param, init = entry.param, entry.init
    assert init is not None
    if param.path not in arrays:
        raise unknown_name("parameter", param.path, arrays)
    array = arrays[param.path]
    if tuple(array.shape) != param.shape:
        raise ModelError(
            f"The plan is for another shape of {param.path}", given=param.shape, allowed=str(tuple(array.shape))
        )
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise ModelError(f"{param.path} cannot be drawn", given=str(array.dtype), allowed="a real floating type")
    gate_factors(param, entry.scales)
    law = law_of(param, init)
    return lambda array: _drawn(array, param, law, seed, entry.scales)


def _drawn(array: Any, param: ParamInfo, law: Draw, seed: int, scales: tuple[float, ...]) -> Any:
    """An array with drawn values in the place of another: of the same type, in the same shards."""
    factors = gate_factors(param, scales) if scales else None

    def part(cuts: Iterable[slice]) -> NDArray[Any]:
        """The values of one rectangular part."""
        cuts = tuple(cuts)
        drawn = draw_law(param, law, seed, cuts)
        if factors is not None:
            kept = tuple(cut if size > 1 else slice(None) for cut, size in zip(cuts, factors.shape, strict=True))
            drawn = drawn * factors[kept]
        return drawn.astype(array.dtype)

    if getattr(array, "sharding", None) is not None:
        return jax.make_array_from_callback(param.shape, array.sharding, part)
    whole = part([slice(None)] * len(param.shape))
    return whole if isinstance(array, np.ndarray) else jnp.asarray(whole)
