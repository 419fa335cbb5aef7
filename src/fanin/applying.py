"""Carrying out a plan on a model: with a bar, all or nothing, and rescaled on a batch."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import ModuleType
from typing import Any

from fanin.errors import ModelError
from fanin.records import Init, Plan, PlanEntry

__all__ = ["rescaled", "restored", "shown"]


def rescaled(adapter: ModuleType, model: Any, decided: Plan, tuning: str, batch: Any, targets: Any, loss: Any) -> Plan:
    """Rescale the weights on a batch; returns the plan with the factors in it."""
    if tuning in ("", "lsuv"):
        wanted = {e.param.path: 1.0 if tuning else e.output for e in decided.chosen if tuning or e.output is not None}
        factors = adapter.calibrate(model, batch, wanted, of="variance" if tuning else "second_moment")
    else:
        from importlib import import_module

        verbs = import_module(f"{adapter.__package__}.tuning")
        paths = [entry.param.path for entry in decided.chosen if entry.param.axes and entry.init != Init("zeros")]
        factors = getattr(verbs, tuning)(model, batch, targets, loss=loss, paths=paths)

    def with_factor(entry: PlanEntry) -> PlanEntry:
        """The entry with its factor, for each gate."""
        factor = factors.get(entry.param.path)
        scales = entry.scales or (1.0,) * entry.param.gates
        return entry if factor is None else replace(entry, scales=tuple(factor * each for each in scales))

    return replace(decided, entries=tuple(map(with_factor, decided.entries)))


@contextmanager
def restored(adapter: ModuleType, model: Any, changed: Plan | None) -> Iterator[None]:
    """If something fails, the old values of what a plan changes come back; `fill` alone undoes itself."""
    try:
        old = {} if changed is None else {e.param.path: adapter.values(model, e.param.path) for e in changed.chosen}
    except ModelError:  # without memory, as on the meta device: there is nothing that could come back
        old = {}
    try:
        yield
    except BaseException:
        if old:
            adapter.write(model, old)
        raise


@contextmanager
def shown(decided: Plan, quiet: bool) -> Iterator[Callable[[int], None] | None]:
    """A bar for plans that take more than about two seconds."""
    import math
    import sys

    numbers = sum(math.prod(entry.param.shape) for entry in decided.chosen)
    if quiet or numbers < _LONG or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("drawing weights", total=numbers)
        yield lambda done: bar.update(task, advance=done)


_LONG = 200_000_000
"""Numbers that take about two seconds to draw."""
