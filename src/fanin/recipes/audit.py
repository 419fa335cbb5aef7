"""Whether each parameter of a model follows the law that was meant for it, or which known law it follows."""

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fanin.errors import ModelError
from fanin.initializers import INITIALIZERS, decide
from fanin.initializers.draws import check_fit, draw_law
from fanin.initializers.fans import fans_of
from fanin.initializers.laws import Draw
from fanin.recipes.evidence import TESTS, Random, tells
from fanin.recipes.lookalikes import REPEATED, Known, known_laws, look_alikes
from fanin.recipes.repeats import Beginning, beginning, repeats
from fanin.recipes.verdicts import Values, expected_stddev, is_certain, misfit, planned, same
from fanin.records import Init, ModelInfo, ParamInfo, Plan, PlanEntry, to_plain
from fanin.records.frames import frame

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FALSE_ALARMS", "HEADER", "Audit", "AuditLine", "audit", "unwritten"]

Array = NDArray[np.floating]
FALSE_ALARMS = 1e-3
"""Bound of the probability that a model which was drawn as planned gets any line that deviates, over all its lines."""
HEADER = ("parameter", "follows", "expected", "looks like", "std", "expected std", "reason")
_COMPARED = 1 << 22
"""Up to this many numbers a parameter is compared with its planned draw, number by number."""
_BUILT = 1 << 20
"""The same where the numbers of a law depend on each other, which are slower to draw."""
_SMALLEST, _HUGE = 2.0**-126, 1e10
"""Beyond these no initial weight lies: the smallest normal float32, and a size that ends in infinities."""
_DRAWN = "the draw that was planned, number by number"


@dataclass(frozen=True)
class AuditLine:
    """What one parameter holds.

    Attributes:
        expected: The initializer that was planned; None where the parameter was to be left alone.
        follows: Whether the values follow it; None where nothing was planned or too few numbers tell. False in any
            case for values that no law gives: not finite, or memory that was never written to.
        looks_like: The known laws that the values may follow, the likeliest first.
        stddev: The values' standard deviation.
        expected_stddev: That of the planned law; None where nothing was planned.
        reason: Why, in a sentence.
    """

    path: str
    expected: Init | None
    follows: bool | None
    looks_like: tuple[str, ...]
    stddev: float
    expected_stddev: float | None
    reason: str

    @property
    def row(self) -> tuple[str, ...]:
        """The cells of a table with `HEADER`."""
        names = [*self.looks_like[:2], *(["..."] if len(self.looks_like) > 2 else [])]
        return (
            self.path,
            {True: "yes", False: "no", None: ""}[self.follows],
            str(self.expected or ""),
            ", ".join(names),
            f"{self.stddev:.4g}",
            "" if self.expected_stddev is None else f"{self.expected_stddev:.4g}",
            self.reason,
        )


@dataclass(frozen=True)
class Audit:
    """What every parameter of a model holds, in the model's order.

    Attributes:
        recipe: The recipe of the plan that it was held against; empty for none.
    """

    lines: tuple[AuditLine, ...]
    recipe: str = ""

    @property
    def deviating(self) -> tuple[AuditLine, ...]:
        """The lines that do not follow the plan, or that hold what no law gives."""
        return tuple(line for line in self.lines if line.follows is False)

    @property
    def ok(self) -> bool:
        """Whether no line deviates."""
        return not self.deviating

    @property
    def summary(self) -> str:
        """One sentence on all lines, with the rate of false alarms."""
        planned = sum(line.expected is not None for line in self.lines)
        if not planned:
            return f"{len(self.lines)} parameters, nothing planned; {len(self.deviating)} hold what no law gives."
        return (
            f"{len(self.deviating)} of {planned} planned parameters deviate. A model drawn as planned shows any "
            f"deviation with a probability of at most {FALSE_ALARMS:g}."
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        lines = [
            {**asdict(line), "expected": None if line.expected is None else str(line.expected)} for line in self.lines
        ]
        record = {"recipe": self.recipe, "ok": self.ok, "false_alarms": FALSE_ALARMS, "lines": lines}
        return to_plain(record)  # type: ignore[no-any-return]

    def to_pandas(self) -> "pd.DataFrame":
        """One row for each parameter.

        Raises:
            MissingExtraError: If pandas is not installed.
        """
        return frame([{**asdict(line), "expected": str(line.expected or "")} for line in self.lines])

    def __str__(self) -> str:
        rows = [HEADER, *(line.row for line in self.lines)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        cells = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
        return "\n".join([*cells, self.summary])

    def _repr_html_(self) -> str:
        """A table, for notebooks."""

        def row(cells: Iterable[str], tag: str) -> str:
            return f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)}</tr>"

        body = "".join(row(line.row, "td") for line in self.lines)
        return f"<table>{row(HEADER, 'th')}{body}</table><p>{escape(self.summary)}</p>"


def audit(info: ModelInfo, values: Callable[[str], NDArray[Any]], plan: Plan | None = None) -> Audit:
    """Say for each parameter whether its values follow the plan, and which known laws they may follow.

    A parameter that holds exactly what the plan draws from its seed follows it; any other is held against the law.
    The tests are bounds for every number of entries: a model that was drawn as planned, from whatever seed, shows a
    deviation with a probability of at most `FALSE_ALARMS`, all of its parameters together.

    Args:
        info: The model.
        values: From a parameter's path to its values, in the framework's layout.
        plan: What was intended; None asks only what the values look like.

    Raises:
        ModelError: If the plan was made for another model, or values have another shape.
        InvalidValueError: If an initializer of the plan does not fit its parameter.

    Example:
        >>> param = ParamInfo("w", (40, 30), "float32", ("out", "in"), "dense")
        >>> info, plan = ModelInfo("torch", (param,)), Plan((PlanEntry(param, Init("he_normal"), ""),))
        >>> ramp = np.linspace(-1, 1, 1200, dtype=np.float32).reshape(40, 30)
        >>> audit(info, lambda path: ramp, plan).deviating[0].reason
        'standard deviation 0.578 instead of 0.258: 2.2 times too large'
    """
    wishes = {} if plan is None else _wishes(info, plan)
    seed = 0 if plan is None else plan.seed
    level = FALSE_ALARMS / (len(TESTS) * max(1, len(info.params)))
    known = known_laws(info)
    lines: list[AuditLine] = []
    beginnings: dict[str, Beginning] = {}
    for param in info.params:
        array = _read(param, values(param.path))
        line = _unusual(param, array, wishes.get(param.path))
        if line is None:
            line = _line(param, array, wishes.get(param.path), seed, known, level)
            first = None if _is_fixed(line) else beginning(array, param.dtype)
            beginnings |= {} if first is None else {param.path: first}
        lines.append(line)
    found = repeats(beginnings)
    told = tuple(_with_repeat(line, found.get(line.path, ())) for line in lines)
    return Audit(told, "" if plan is None else plan.recipe)


def _wishes(info: ModelInfo, plan: Plan) -> dict[str, PlanEntry]:
    """What a plan wants of each parameter that it names."""
    shapes = {param.path: param.shape for param in info.params}
    for entry in plan.entries:
        path, shape = entry.param.path, entry.param.shape
        if shapes.get(path) != shape:
            raise ModelError(
                "The plan was made for another model", given=f"{path} of shape {shape}",
                allowed=f"shape {shapes[path]}" if path in shapes else "parameters of the model",
            )  # fmt: skip
    return {entry.param.path: entry for entry in plan.chosen}


def _read(param: ParamInfo, given: NDArray[Any]) -> NDArray[Any]:
    """A parameter's values in the shape of its description, in a type that NumPy computes in."""
    array = np.asarray(given)
    if array.size != math.prod(param.shape):
        raise ModelError(f"The values of {param.path} have another shape", given=array.shape, allowed=str(param.shape))
    wide = array.dtype in (np.float32, np.float64) or "float" not in param.dtype
    return (array if wide else array.astype(np.float32)).reshape(param.shape)


def _unusual(param: ParamInfo, array: NDArray[Any], wish: PlanEntry | None) -> AuditLine | None:
    """The line of a parameter that no test can be made on; None for a usual one."""
    follows, reason = None, ""
    if "float" not in param.dtype:
        reason = f"holds {param.dtype}, no floating numbers"
    elif not array.size:
        reason = "has no numbers"
    elif infinite := array.size - np.count_nonzero(np.isfinite(array)):
        follows, reason = False, f"not finite: {infinite} of {array.size} numbers"
    elif words := unwritten(array, param.dtype):
        follows, reason = False, words
    if not reason:
        return None
    stddev = float(array.std(dtype=np.float64)) if array.size and np.isfinite(array).all() else math.nan
    return AuditLine(param.path, None if wish is None else wish.init, follows, (), stddev, None, reason)


def unwritten(array: Array, dtype: str) -> str:
    """What speaks for memory that was never written to, in words; empty for nothing.

    Example:
        >>> unwritten(np.array([0.3, 1e-41, 0.1], np.float32), "float32")
        'memory that was never written to? 1 numbers below 1e-38'
    """
    sizes = np.abs(array)
    # Every number of a narrow type is a usual one there.
    tiny = 0 if dtype == "float16" else np.count_nonzero((sizes > 0) & (sizes < _SMALLEST))
    huge = np.count_nonzero(sizes > _HUGE)
    found = [f"{count} numbers {what}" for count, what in ((tiny, "below 1e-38"), (huge, "above 1e10")) if count]
    return f"memory that was never written to? {' and '.join(found)}" if found else ""


def _line(
    param: ParamInfo, array: Array, entry: PlanEntry | None, seed: int,
    known: Callable[[ParamInfo], tuple[Known, ...]], level: float,
) -> AuditLine:  # fmt: skip
    """The line of a parameter, but for what other parameters hold."""
    whole = Values(param, array)
    values, note = _without_padding(whole)
    if entry is None or entry.init is None:
        looks_like = look_alikes(known(values.param), values, level)
        return AuditLine(param.path, None, None, looks_like, whole.measured.stddev, None, note)
    law = decide(entry.init, fans_of(param))
    check_fit(param, law)
    follows, reason = _judged(whole, values, law, entry, seed, level)
    name = str(entry.init)
    laws = (Known((name,), law, values.param, entry.scales), *known(values.param)) if follows else known(values.param)
    looks_like = look_alikes(laws, values, level, (entry.init, law))
    if follows:
        looks_like = (name, *(each for each in looks_like if each != name))
    expected = expected_stddev(param, law, entry.scales)
    reason = f"{reason}; {note}" if note else reason
    return AuditLine(param.path, entry.init, follows, looks_like, whole.measured.stddev, expected, reason)


def _judged(
    whole: Values, values: Values, law: Draw, entry: PlanEntry, seed: int, level: float
) -> tuple[bool | None, str]:
    """Whether values follow what was planned, and why; `values` are those without a row for padding."""
    certain = is_certain(law)
    if not certain and _is_drawn(whole, law, entry, seed):
        return True, _DRAWN
    values = whole if certain else values
    reason = misfit(values.param, law, entry.scales, values, level)
    if reason:
        return False, reason
    if certain:
        return True, "holds just that"
    if isinstance(law, Random) and not tells(law, values.array.size, level):
        return None, f"{values.array.size} numbers: too few entries to tell"
    if isinstance(law, Random) and values.measured.repeated > REPEATED:
        return False, f"{100 * values.measured.repeated:.0f} % of its numbers occur more than once"
    return True, "another draw of the same law"


def _is_drawn(values: Values, law: Draw, entry: PlanEntry, seed: int) -> bool:
    """Whether a parameter holds what the plan draws from its seed; unasked where it is too large to compare."""
    param, array = values.param, values.array
    if array.size > (_COMPARED if isinstance(law, Random) else _BUILT):
        return False
    if isinstance(law, Random) and not entry.scales:  # most that are not are told by their first numbers
        corner = tuple(slice(0, 2) for _ in param.shape)
        if not same(array[corner], draw_law(param, law, seed, corner), param.dtype).all():
            return False
    return bool(same(array, planned(param, law, seed, entry.scales), param.dtype).all())


def _without_padding(values: Values) -> tuple[Values, str]:
    """The values of a table without its only row of zeros, if there is one, and a word on it."""
    param = values.param
    if param.role != "embedding" or "batch" not in param.axes:
        return values, ""
    axis = param.axes.index("batch")
    filled = values.array.any(axis=tuple(i for i in range(values.array.ndim) if i != axis))
    (empty,) = np.nonzero(~filled)
    if len(empty) != 1 or filled.size == 1:
        return values, ""
    kept = np.delete(values.array, empty[0], axis)
    return Values(replace(param, shape=kept.shape), kept), f"row {empty[0]} holds zeros, as for padding"


def _is_fixed(line: AuditLine) -> bool:
    """Whether a parameter holds what a law without random numbers gives, which others may hold as well."""
    names = (name.partition("(")[0] for name in line.looks_like)
    return any(name in INITIALIZERS and not INITIALIZERS[name].random for name in names)


def _with_repeat(line: AuditLine, others: tuple[str, ...]) -> AuditLine:
    """A line, told that other parameters hold the same random numbers."""
    if not others or line.reason == _DRAWN:
        return line
    count = "1 other parameter" if len(others) == 1 else f"{len(others)} other parameters"
    names = ", ".join([*others[:2], *(["..."] if len(others) > 2 else [])])
    reason = f"the same random numbers as {count} ({names}): a repeated seed, or a copy"
    return replace(line, follows=None if line.expected is None else False, reason=reason)
