"""`fanin list`: what fanin knows."""

import json
from typing import Annotated, Any

import typer

from fanin.cli.common import out, terminal

__all__ = ["list_"]


def list_(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead of tables.")] = False,
) -> None:
    """List the initializers, recipes, tasks and models that fanin knows."""
    from rich.table import Table

    from fanin.experiments.datasets import TASKS
    from fanin.experiments.models import MODELS
    from fanin.initializers import INITIALIZERS
    from fanin.recipes import RECIPES

    sections: dict[str, dict[str, Any]] = {
        "initializers": {
            entry.name: {
                "summary": entry.summary,
                "parameters": {name: parameter.default for name, parameter in entry.parameters.items()},
                "also": list(entry.aliases),
                "source": entry.source,
            }
            for entry in INITIALIZERS.values()
        },
        "recipes": {name: entry.summary for name, entry in RECIPES.items()},
        "tasks": {name: entry.summary for name, entry in TASKS.items()},
        "models": MODELS,
    }
    if as_json:
        out(json.dumps(sections))
        return
    console = terminal()
    table = Table("initializer", "parameters", "what it draws", "also called", box=None, title_justify="left")
    for entry in INITIALIZERS.values():
        params = ", ".join(f"{name}={parameter.default}" for name, parameter in entry.parameters.items())
        table.add_row(entry.name, params, entry.summary, ", ".join(entry.aliases))
    console.print(table)
    for name in ("recipes", "tasks", "models"):
        console.print(f"\n{name}")
        for key, text in sections[name].items():
            console.print(f"  {key:16} {text}", markup=False)
