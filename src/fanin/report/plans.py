"""Plans and audits as tables: on the terminal, and in notebooks, which show the same tables as HTML."""

from typing import TYPE_CHECKING

from fanin.recipes.audit import HEADER, Audit
from fanin.records import Plan, PlanEntry

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["lines", "table"]

_STYLES = {False: "red", True: "green", None: None}
_NUMBERS = ("std", "expected std")


def table(shown: Plan | Audit) -> "Table":
    """One row for each parameter.

    Example:
        >>> from fanin.records import Init, ParamInfo
        >>> param = ParamInfo("w", (3, 2), "float32", ("in", "out"), "dense")
        >>> table(Plan((PlanEntry(param, Init("he_normal"), "dense, relu follows"),))).row_count
        1
    """
    return _plan(shown) if isinstance(shown, Plan) else _audit(shown)


def lines(shown: Plan | Audit) -> list[str]:
    """What holds for all parameters together, one sentence each."""
    if isinstance(shown, Audit):
        return [shown.summary]
    left = len(shown.entries) - len(shown.chosen)
    counts = f"{len(shown.chosen)} parameters get an initializer, {left} left alone"
    return [f"{shown.recipe or 'plan'}, seed {shown.seed}: {counts}.", *shown.notes]


def _plan(plan: Plan) -> "Table":
    from rich.markup import escape
    from rich.table import Table

    scaled = any(entry.scales for entry in plan.entries)
    rows = Table(title=escape(plan.recipe or "plan"), title_justify="left", title_style="bold")
    for name in ("parameter", "shape", "initializer", *(["factor by gate"] if scaled else []), "why"):
        rows.add_column(name, overflow="fold")

    said: set[str] = set()

    def why(entry: PlanEntry) -> str:
        """The reason, and what would happen otherwise where no row before has said it."""
        if not entry.otherwise or entry.otherwise in said:
            return entry.reason
        said.add(entry.otherwise)
        return f"{entry.reason}. Otherwise: {entry.otherwise}"

    def cells(entry: PlanEntry) -> list[str]:
        """One row."""
        factors = [", ".join(f"{scale:.4g}" for scale in entry.scales)] if scaled else []
        shape = " x ".join(map(str, entry.param.shape))
        return [entry.param.path, shape, str(entry.init or "left alone"), *factors, why(entry)]

    for entry in plan.entries:
        rows.add_row(*map(escape, cells(entry)), style="dim" if entry.init is None else None)
    return rows


def _audit(audit: Audit) -> "Table":
    from rich.markup import escape
    from rich.table import Table

    title = f"audit against {audit.recipe}" if audit.recipe else "audit"
    rows = Table(title=escape(title), title_justify="left", title_style="bold")
    for name in HEADER:
        rows.add_column(name, justify="right" if name in _NUMBERS else "left", overflow="fold")
    for line in audit.lines:
        rows.add_row(*map(escape, line.row), style=_STYLES[line.follows])
    return rows
