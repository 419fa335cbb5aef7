"""`fanin plan`: how a model should be initialised."""

import json
from typing import Annotated, Any

import typer

from fanin.cli.common import out, terminal
from fanin.errors import InvalidValueError

__all__ = ["plan"]


def plan(
    model: Annotated[str, typer.Argument(help="file.py:build, a function that returns a model.")],
    recipe: Annotated[str, typer.Option(help="auto, another recipe, or one initializer; see fanin list.")] = "auto",
    example: Annotated[str | None, typer.Option(help="file.py:batch, a function that returns an input.")] = None,
    rule: Annotated[list[str] | None, typer.Option(help="'pattern=initializer' or 'pattern=keep'; repeat.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Pattern of paths that may be touched; repeat.")] = None,
    except_: Annotated[list[str] | None, typer.Option("--except", help="Pattern of paths to leave; repeat.")] = None,
    against: Annotated[str | None, typer.Option(help="Another recipe: show only what it would do otherwise.")] = None,
    seed: Annotated[int, typer.Option(help="0 to 2**64 - 1.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead of tables.")] = False,
) -> None:
    """Say how a model should be initialised, parameter by parameter and why. Nothing is written: fanin.init does.

    Examples:

      fanin plan net.py:build

      fanin plan net.py:build --example net.py:batch --recipe gpt2

      fanin plan net.py:build --rule 'head.*=zeros' --except 'backbone.*'
    """
    from fanin import api
    from fanin.experiments.sources import call_function

    built = call_function(model, "model")
    batch = None if example is None else call_function(example, "example")
    wishes: dict[str, Any] = {
        "example": batch, "rules": _rules(rule or []), "only": only or (), "except_": except_ or (), "seed": seed,
    }  # fmt: skip
    decided = api.plan(built, recipe, **wishes)
    other = None if against is None else api.plan(built, against, **wishes)
    if as_json:
        out(json.dumps(decided.to_dict() | ({"diff": decided.diff(other)} if other else {}), allow_nan=False))
    elif other is not None:
        out("\n".join(decided.diff(other)) or "No difference.")
    else:
        from fanin.report.plans import lines, table

        console = terminal()
        console.print(table(decided))
        for line in lines(decided):
            console.print(line, markup=False, soft_wrap=True)


def _rules(given: list[str]) -> dict[str, str]:
    """The rules by pattern."""
    pairs = [text.partition("=") for text in given]
    wrong = next((text for text, pair in zip(given, pairs, strict=True) if not (pair[0] and pair[2])), None)
    if wrong is not None:
        raise InvalidValueError("The rule cannot be read", given=wrong, allowed="pattern=initializer or pattern=keep")
    return {pattern: wish for pattern, _, wish in pairs}
