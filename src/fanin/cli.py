"""The command line: arguments to `fanin.api`, results to the terminal. Nothing is decided here."""

import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fanin.errors import FaninError, InvalidValueError, StoreError

if TYPE_CHECKING:
    from rich.console import Console

    from fanin.experiments.executor import Progress
    from fanin.experiments.results import Results

__all__ = ["app", "main"]

app = typer.Typer(
    name="fanin",
    help="Start every neural network well, and prove it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _console(stderr: bool = False) -> "Console":
    from rich.console import Console

    plain = not (sys.stderr if stderr else sys.stdout).isatty()
    return Console(stderr=stderr, highlight=False, width=160 if plain else None)


@app.command()
def compare(
    task: Annotated[
        str, typer.Option(help="digits, mnist, fashion_mnist, cifar10, path.npz or file.py:load.")
    ] = "digits",
    model: Annotated[
        str | None, typer.Option(help="mlp:128x128, cnn:16x32 or file.py:build. [default: the task's own]")
    ] = None,
    activation: Annotated[
        list[str] | None,
        typer.Option(help="Between layers; repeat to cross with the initializers. [default: relu]"),
    ] = None,
    init: Annotated[
        list[str] | None,
        typer.Option(help="An initializer; repeat. he_normal+tanh brings its own activation. [default: eight of them]"),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Paired repetitions; below 6 nothing is called better.")] = 8,
    lr: Annotated[
        list[str] | None,
        typer.Option(
            help="A learning rate; repeat to choose one for each initializer; or auto. [default: three rates]"
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training data. [default: the task's own]")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Examples in a step. [default: the task's own]")] = None,
    optimizer: Annotated[str, typer.Option(help="The framework's, such as adam or 'sgd(momentum=0.9)'.")] = "adam",
    baseline: Annotated[
        str | None,
        typer.Option(help="What the others are compared to. [default: glorot_uniform, or the first]"),
    ] = None,
    store: Annotated[Path, typer.Option(help="File that keeps finished runs; the same command continues.")] = Path(
        "fanin.sqlite"
    ),
    report: Annotated[Path, typer.Option(help="HTML report to write.")] = Path("report.html"),
    figure: Annotated[Path | None, typer.Option(help="Picture to write as well (.png, .pdf, .svg).")] = None,
    csv: Annotated[Path | None, typer.Option(help="Table of all runs to write as well.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead of tables.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Say how many runs and how long; train and write nothing.")] = False,
) -> None:
    """Train one network under many initializers, seeds and learning rates, and say which is better.

    Examples:

      fanin compare

      fanin compare --init he_normal --init glorot_uniform --task mnist --lr auto

      fanin compare --init he_normal+relu --init glorot_uniform+tanh --model mlp:512x256
    """
    from fanin import api
    from fanin.experiments.spec import experiment

    if not dry_run:
        _must_be_writable([path for path in (store, report, figure, csv) if path is not None])
    if figure is not None:
        from fanin.report.figure import check_format

        check_format(figure)
    decided = experiment(
        task=task, model=model, activation=activation or (), init=init or (), seeds=seeds, lr=_rates(lr),
        epochs=epochs, batch_size=batch_size, optimizer=optimizer, baseline=baseline,
    )  # fmt: skip
    with _interruptible(), _progress() as progress:
        if dry_run:
            estimate = api.estimate(decided, store, progress)
        else:
            results = api.run_experiment(decided, store, progress)
    if dry_run:
        text = (
            f"{estimate.runs} runs, {estimate.runs - estimate.missing} of them finished in {store}; "
            f"about {_duration(estimate.seconds)} for the other {estimate.missing}."
        )
        _out(
            json.dumps({"runs": estimate.runs, "missing": estimate.missing, "seconds": estimate.seconds})
            if as_json
            else text
        )
        return
    _write(results, report, figure, csv)
    if as_json:
        _out(json.dumps(results.to_dict(), allow_nan=False))
    else:
        _show(results, report)


@app.command("list")
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
        _out(json.dumps(sections))
        return
    console = _console()
    table = Table("initializer", "parameters", "what it draws", "also called", box=None, title_justify="left")
    for entry in INITIALIZERS.values():
        params = ", ".join(f"{name}={parameter.default}" for name, parameter in entry.parameters.items())
        table.add_row(entry.name, params, entry.summary, ", ".join(entry.aliases))
    console.print(table)
    for name in ("recipes", "tasks", "models"):
        console.print(f"\n{name}")
        for key, text in sections[name].items():
            console.print(f"  {key:16} {text}", markup=False)


def _out(text: str) -> None:
    """Write to standard output as it is, without wrapping or colour."""
    sys.stdout.write(text + "\n")


def _rates(given: list[str] | None) -> list[float] | str | None:
    if given is None:
        return None
    if given == ["auto"]:
        return "auto"
    try:
        return [float(text) for text in given]
    except ValueError:
        raise InvalidValueError(
            "The learning rate cannot be read",
            given=", ".join(given),
            allowed="numbers above 0, or auto alone",
        ) from None


def _must_be_writable(paths: list[Path]) -> None:
    """Found before anything is trained, not after."""
    for path in paths:
        try:
            if path.is_dir():
                raise IsADirectoryError
            # Tried rather than asked for: permissions do not tell of every folder that takes no file.
            with tempfile.TemporaryFile(dir=path.parent):
                pass
        except OSError:
            raise StoreError(
                "The file cannot be written",
                given=str(path),
                allowed="a file in a folder that exists and can be written to",
            ) from None
    if len({path.resolve() for path in paths}) < len(paths):
        raise InvalidValueError(
            "Two outputs are the same file",
            given=", ".join(map(str, paths)),
            allowed="a file of its own for each of --store, --report, --figure and --csv",
        )


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C ends with a sentence and the usual exit code."""
    try:
        yield
    except KeyboardInterrupt:
        sys.stderr.write("\nStopped. Finished runs are kept; the same command continues.\n")
        raise typer.Exit(130) from None


@app.command()
def theory(
    activation: Annotated[str, typer.Argument(help="A name, such as gelu, or file.py:function on NumPy arrays.")],
    phase_diagram: Annotated[
        Path | None, typer.Option(help="Picture of order and chaos to write as well (.png, .pdf, .svg).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead of tables.")] = False,
) -> None:
    """Say what an activation needs: gains, edge of chaos, what the usual initializers do to a deep network.

    Examples:

      fanin theory gelu

      fanin theory tanh --phase-diagram tanh.png
    """
    from fanin import api

    if phase_diagram is not None:
        from fanin.report.figure import check_format

        _must_be_writable([phase_diagram])
        check_format(phase_diagram)
    card, diagram = api.theory(activation, with_diagram=phase_diagram is not None)
    if phase_diagram is not None and diagram is not None:
        from fanin.files import write_whole
        from fanin.report.figure import diagram_bytes

        write_whole(phase_diagram, diagram_bytes(diagram, phase_diagram.suffix[1:]))
    if as_json:
        _out(json.dumps(card.to_dict() | ({"phase_diagram": diagram.to_dict()} if diagram else {}), allow_nan=False))
        return
    from fanin.report.theory import lines, tables

    console = _console()
    for table in tables(card):
        console.print(table)
        console.print()
    for line in lines(card):
        console.print(line, markup=False, soft_wrap=True)
    if phase_diagram is not None:
        console.print(f"\nPhase diagram: {phase_diagram}", markup=False)


@app.command()
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
        _out(json.dumps(decided.to_dict() | ({"diff": decided.diff(other)} if other else {}), allow_nan=False))
    elif other is not None:
        _out("\n".join(decided.diff(other)) or "No difference.")
    else:
        from fanin.report.plans import lines, table

        console = _console()
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


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


@contextmanager
def _progress() -> Iterator["Progress"]:
    """A live bar on a terminal, a line now and then elsewhere; always on standard error."""
    from fanin.progress import Bar, Lines

    with Bar(_console(stderr=True)) if sys.stderr.isatty() else Lines(sys.stderr) as progress:
        yield progress


def _write(results: "Results", report: Path, figure: Path | None, csv: Path | None) -> None:
    from fanin.files import write_whole
    from fanin.report.html import html

    write_whole(report, html(results, command=_command()).encode())
    if csv is not None:
        write_whole(csv, results.to_csv().encode())
    if figure is not None:
        from fanin.report.figure import figure_bytes

        write_whole(figure, figure_bytes(results, figure.suffix[1:]))


def _command() -> str:
    import shlex

    return shlex.join(["fanin", *sys.argv[1:]])


def _show(results: "Results", report: Path) -> None:
    from fanin.report.terminal import table, text

    console = _console()
    console.print(table(results))
    console.print()
    for line in text(results):
        console.print(line, markup=False, soft_wrap=True)
    console.print(f"\nReport: {report}", markup=False)
    more = 2 * results.experiment.seeds
    console.print(f"Next:   fanin compare --seeds {more}   (adds runs to these, and decides more)", markup=False)
    console.print("        fanin compare --lr auto    (chooses the rates from a wide range)", markup=False)


def main() -> Any:
    """Run the command line; a user's mistake is one message and exit code 2."""
    try:
        app()
    except FaninError as error:
        sys.stderr.write(f"Error: {error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
