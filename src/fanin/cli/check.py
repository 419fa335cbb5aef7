"""`fanin check`: what is wrong with the start of a model, and what cures it."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from fanin.cli.common import command_line, must_be_writable, out, terminal
from fanin.errors import InvalidValueError

__all__ = ["check"]

_LOADED = ".py:"
"""What a text has that names a function in a file."""


def check(
    model: Annotated[str, typer.Argument(help="file.py:build, returns a model, or a model and its optimizer.")],
    data: Annotated[str | None, typer.Option(help="file.py:batch, returns inputs, or inputs and targets.")] = None,
    loss: Annotated[str | None, typer.Option(help="The framework's name of a loss, or file.py:loss.")] = None,
    optimizer: Annotated[str | None, typer.Option(help="Such as adam or 'sgd(lr=0.1, momentum=0.9)'.")] = None,
    steps: Annotated[int, typer.Option(help="Training steps of each trial on the batch; 0 for none.")] = 50,
    seconds: Annotated[float, typer.Option(help="The longest that a trial may take.")] = 10.0,
    seed: Annotated[int, typer.Option(help="Of the weights that cures draw, 0 to 2**64 - 1.")] = 0,
    layers: Annotated[bool, typer.Option(help="Show signal and gradient at each layer as well.")] = False,
    report: Annotated[Path | None, typer.Option(help="HTML page to write as well.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead of text.")] = False,
) -> None:
    """Say what is wrong with the start of a model that does not train, where, why, and what cures it.

    The model is run on the batch, then copies of it are trained for some steps, with and without each cure. It ends
    with 0 where nothing was found, with 1 where something was, and with 2 for a mistake in the command.

    Examples:

      fanin check net.py:build --data net.py:batch

      fanin check net.py:build --data net.py:batch --loss cross_entropy --optimizer 'sgd(lr=0.1)' --report check.html
    """
    from fanin import api

    if report is not None:
        must_be_writable([report])
    built, made = _pair(model, "model")
    inputs, targets = (None, None) if data is None else _pair(data, "data")
    if optimizer is not None and made is not None:
        raise InvalidValueError("Two optimizers are given", given=f"--optimizer {optimizer}, and that of {model}")
    with _waiting(sys.stderr.isatty()):
        found = api.check(
            built, inputs, targets, loss=_loaded(loss, "loss"), optimizer=optimizer or made, steps=steps,
            seconds=seconds, seed=seed,
        )  # fmt: skip
    if report is not None:
        from fanin.files import write_whole
        from fanin.report.checkup import page

        write_whole(report, page(found, command_line()).encode())
    if as_json:
        out(json.dumps(found.to_dict(), allow_nan=False))
    else:
        from fanin.report.checkup import table, text

        shown = terminal()
        for line in text(found):
            shown.print(line, soft_wrap=True)
        if layers:
            shown.print(table(found))
        if report is not None:
            shown.print(f"\nReport: {report}", markup=False)
    if not found.ok:
        raise typer.Exit(1)


def _pair(text: str, kind: str) -> tuple[Any, Any]:
    """What a function of the user's returns, and what it returns beside it, if anything."""
    from fanin.experiments.sources import call_function

    made = call_function(text, kind)
    if isinstance(made, tuple) and len(made) == 2:
        return made
    return made, None


def _loaded(text: str | None, kind: str) -> Any:
    """A function in the user's file, or the name of one of the framework's."""
    from fanin.experiments.sources import load_function

    return load_function(text, kind)[0] if text is not None and _LOADED in text else text


def _waiting(shown: bool) -> Any:
    """A word while it takes its time, on a terminal."""
    from contextlib import nullcontext

    return terminal(stderr=True).status("running the model, trying cures on copies ...") if shown else nullcontext()
