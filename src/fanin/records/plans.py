"""What is decided for each parameter of a model, and why."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from html import escape
from typing import TYPE_CHECKING, Any, Self

from fanin.records.calls import Init
from fanin.records.frames import frame
from fanin.records.models import ParamInfo

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Plan", "PlanEntry"]


@dataclass(frozen=True)
class PlanEntry:
    """What one parameter gets (`init`, or None for "left as the model made it") and why.

    Attributes:
        reason: Why this, in one sentence.
        considers: Which consideration decided: ``activation``, ``architecture``, ``dataset``, ``task``,
            ``normalisation``, ``variance``, ``compute``, ``validation``, ``pretrained`` or ``regularisation``.
        otherwise: What would change the decision, or what the alternative would do.
        scales: A factor for each gate of the parameter (see `ParamInfo.gates`), after the draw; empty for none.
        output: The second moment that a weight's output is meant to have, for calibration; None where no size is.
    """

    param: ParamInfo
    init: Init | None
    reason: str
    considers: str = ""
    otherwise: str = ""
    scales: tuple[float, ...] = ()
    output: float | None = None


@dataclass(frozen=True)
class Plan:
    """A decision for every parameter of a model.

    Attributes:
        recipe: The recipe that decided.
        seed: 0 to 2**64 - 1; all random numbers of the plan follow from it.
        notes: Sentences about the whole model.
    """

    entries: tuple[PlanEntry, ...]
    recipe: str = ""
    seed: int = 0
    notes: tuple[str, ...] = ()

    @property
    def chosen(self) -> tuple[PlanEntry, ...]:
        """The entries that name an initializer."""
        return tuple(entry for entry in self.entries if entry.init is not None)

    def diff(self, other: "Plan") -> tuple[str, ...]:
        """One line for each parameter that the two plans treat differently.

        Example:
            >>> param = ParamInfo("w", (3, 2), "float32", ("in", "out"), "dense")
            >>> one, two = (Plan((PlanEntry(param, Init(name), ""),)) for name in ("zeros", "he_normal"))
            >>> one.diff(two)
            ('w: zeros -> he_normal',)
        """
        mine, theirs = ({each.param.path: each for each in plan.entries} for plan in (self, other))
        return tuple(
            f"{path}: {_what(mine.get(path))} -> {_what(theirs.get(path))}"
            for path in dict.fromkeys([*mine, *theirs])
            if _what(mine.get(path)) != _what(theirs.get(path))
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        entries = [{**asdict(each), "init": None if each.init is None else _init(each.init)} for each in self.entries]
        return {**asdict(self), "entries": entries}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`, also after a way through JSON."""

        def param(given: Mapping[str, Any]) -> ParamInfo:
            plain: dict[str, Any] = {
                key: tuple(each) if isinstance(each, list) else each for key, each in given.items()
            }
            return ParamInfo(**plain)

        def entry(given: Mapping[str, Any]) -> PlanEntry:
            init = given["init"]
            called = None if init is None else Init(init["name"], **init["params"])
            return PlanEntry(**{
                **given, "param": param(given["param"]), "init": called, "scales": tuple(given["scales"])
            })  # fmt: skip

        return cls(tuple(map(entry, record["entries"])), record["recipe"], record["seed"], tuple(record["notes"]))

    def to_pandas(self) -> "pd.DataFrame":
        """One row for each parameter.

        Raises:
            MissingExtraError: If pandas is not installed.
        """
        return frame([{"path": e.param.path, "init": _what(e), "reason": e.reason, "considers": e.considers,
                              "otherwise": e.otherwise} for e in self.entries])  # fmt: skip

    def _repr_html_(self) -> str:
        """A table, for notebooks."""
        rows = "".join(
            f"<tr><td>{escape(e.param.path)}</td><td>{escape(_what(e))}</td><td>{escape(e.reason)}</td></tr>"
            for e in self.entries
        )
        notes = "".join(f"<p>{escape(note)}</p>" for note in self.notes)
        return f"<table><tr><th>parameter</th><th>initializer</th><th>why</th></tr>{rows}</table>{notes}"

    def __str__(self) -> str:
        width = max((len(entry.param.path) for entry in self.entries), default=0)
        return "\n".join(f"{entry.param.path:{width}}  {_what(entry):24}  {entry.reason}" for entry in self.entries)


def _init(init: Init) -> dict[str, Any]:
    return {"name": init.name, "params": init.params}


def _what(entry: PlanEntry | None) -> str:
    if entry is None:
        return "not there"
    if entry.init is None:
        return "left alone"
    scales = f" times {', '.join(f'{scale:.4g}' for scale in entry.scales)} by gate" if entry.scales else ""
    return f"{entry.init}{scales}"
