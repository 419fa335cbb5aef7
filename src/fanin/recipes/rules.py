"""What a user asks beyond a recipe: rules for single parameters, and which ones may be touched at all."""

import fnmatch
from collections.abc import Iterable, Mapping
from dataclasses import replace

from fanin.errors import InvalidValueError, unknown_name
from fanin.initializers import canonical
from fanin.initializers.draws import law_of
from fanin.recipes.table import decide_all
from fanin.records import Init, ModelInfo, ParamInfo, Plan, PlanEntry

__all__ = ["decided"]

Patterns = str | Iterable[str]
KEEP = "keep"
"""In a rule: leave the parameter as it is."""


def decided(
    info: ModelInfo,
    recipe: str | Init = "auto",
    *,
    rules: Mapping[str, str | Init] | None = None,
    only: Patterns = (),
    except_: Patterns = (),
    seed: int = 0,
) -> Plan:
    """A plan for a described model: the recipe, then the rules, then the limits.

    Args:
        info: The model.
        recipe: A recipe or an initializer.
        rules: Initializers by path pattern (``*`` for anything), or ``keep``; the last that matches decides.
        only: Patterns of the paths that may be touched; all where nothing is said.
        except_: Patterns of the paths that may not.
        seed: 0 to 2**64 - 1.

    Raises:
        UnknownNameError: If a pattern matches no parameter, or a name is not known.
        InvalidValueError: If a shared parameter gets two rules, or one that holds no floating numbers gets any.
        ModelError: If the recipe does not fit the model.
    """
    allowed, forbidden = _names(only), _names(except_)
    for pattern in (*allowed, *forbidden, *(rules or {})):
        _must_match(info, pattern)
    chosen = _chosen(info, rules or {})
    plan = decide_all(info, recipe)

    def limited(entry: PlanEntry) -> PlanEntry:
        """The recipe's entry, unless the user's limits or rules say otherwise."""
        param = entry.param
        if allowed and not any(_matches(param, pattern) for pattern in allowed):
            return _kept(entry, f"not among what was asked for ({', '.join(allowed)})")
        refused = next((pattern for pattern in forbidden if _matches(param, pattern)), None)
        if refused is not None:
            return _kept(entry, f"excepted ({refused})")
        if param.path in chosen:
            pattern, init = chosen[param.path]
            if init is None:
                return _kept(entry, f"your rule for {pattern} keeps it")
            otherwise = f"the recipe would give {entry.init}" if entry.init else "the recipe would leave it alone"
            return PlanEntry(param, init, f"your rule for {pattern}", otherwise=otherwise)
        if entry.init is not None and not _is_floating(param):
            return _kept(entry, f"holds {param.dtype}, no floating numbers: it stays as it is")
        return entry

    entries = tuple(map(limited, plan.entries))
    for entry in entries:
        if entry.init is not None:
            law_of(entry.param, entry.init)  # refused now, not when half is written
    return replace(plan, entries=entries, seed=seed, recipe=str(recipe))


def _names(patterns: Patterns) -> tuple[str, ...]:
    return (patterns,) if isinstance(patterns, str) else tuple(patterns)


def _is_floating(param: ParamInfo) -> bool:
    return "float" in param.dtype


def _paths(param: ParamInfo) -> tuple[str, ...]:
    return (param.path, *param.shared)


def _matches(param: ParamInfo, pattern: str) -> bool:
    return any(fnmatch.fnmatchcase(path, pattern) for path in _paths(param))


def _must_match(info: ModelInfo, pattern: str) -> None:
    if not any(_matches(param, pattern) for param in info.params):
        raise unknown_name(
            "parameter", pattern, [path for param in info.params for path in (param.path, *param.shared)]
        )


def _kept(entry: PlanEntry, reason: str) -> PlanEntry:
    return PlanEntry(entry.param, None, reason, otherwise=str(entry.init or ""))


def _chosen(info: ModelInfo, rules: Mapping[str, str | Init]) -> dict[str, tuple[str, Init | None]]:
    """For each parameter that a rule names: the rule's pattern, and its initializer or None to keep it."""
    found: dict[str, tuple[str, Init | None]] = {}
    for param in info.params:
        by_path = {path: rule for path in _paths(param) if (rule := _last_rule(path, rules)) is not None}
        if len({init for _, init in by_path.values()}) > 1:
            raise InvalidValueError(
                "Two rules disagree about one shared parameter",
                given=", ".join(f"{path}: {init or KEEP}" for path, (_, init) in by_path.items()),
                allowed="the same rule for all of its names",
            )
        for rule in by_path.values():
            if rule[1] is not None and not _is_floating(param):
                raise InvalidValueError("The parameter holds no floating numbers", given=f"{param.path}: {param.dtype}")
            found[param.path] = rule
    return found


def _last_rule(path: str, rules: Mapping[str, str | Init]) -> tuple[str, Init | None] | None:
    """The last rule that matches a path, its initializer read; None in it keeps the parameter."""
    matching = [pattern for pattern in rules if fnmatch.fnmatchcase(path, pattern)]
    if not matching:
        return None
    wish = rules[matching[-1]]
    return matching[-1], None if wish == KEEP else canonical(wish)
