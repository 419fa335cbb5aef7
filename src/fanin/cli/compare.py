"""`fanin compare`: arguments to `fanin.api`, results to the terminal and to files."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fanin.cli.common import command_line, interruptible, must_be_writable, out, progress_bar, terminal
from fanin.errors import InvalidValueError

if TYPE_CHECKING:
    from fanin.experiments.executor import Estimate
    from fanin.experiments.results import Results

__all__ = ["compare"]


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
        typer.Option(
            help="An initializer, or a recipe such as auto; repeat. he_normal+tanh brings its own activation. "
            "[default: eight initializers]"
        ),
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
        must_be_writable([path for path in (store, report, figure, csv) if path is not None])
    if figure is not None:
        from fanin.report.figure import check_format

        check_format(figure)
    decided = experiment(
        task=task, model=model, activation=activation or (), init=init or (), seeds=seeds, lr=_rates(lr),
        epochs=epochs, batch_size=batch_size, optimizer=optimizer, baseline=baseline,
    )  # fmt: skip
    with interruptible(), progress_bar() as progress:
        if dry_run:
            estimate = api.estimate(decided, store, progress)
        else:
            results = api.run_experiment(decided, store, progress)
    if dry_run:
        _show_estimate(estimate, store, as_json)
        return
    _write(results, report, figure, csv)
    if as_json:
        out(json.dumps(results.to_dict(), allow_nan=False))
    else:
        _show(results, report)


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


def _show_estimate(estimate: "Estimate", store: Path, as_json: bool) -> None:
    if as_json:
        out(json.dumps({"runs": estimate.runs, "missing": estimate.missing, "seconds": estimate.seconds}))
    else:
        out(
            f"{estimate.runs} runs, {estimate.runs - estimate.missing} of them finished in {store}; "
            f"about {_duration(estimate.seconds)} for the other {estimate.missing}."
        )


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _write(results: "Results", report: Path, figure: Path | None, csv: Path | None) -> None:
    from fanin.files import write_whole
    from fanin.report.html import html

    write_whole(report, html(results, command=command_line()).encode())
    if csv is not None:
        write_whole(csv, results.to_csv().encode())
    if figure is not None:
        from fanin.report.figure import figure_bytes

        write_whole(figure, figure_bytes(results, figure.suffix[1:]))


def _show(results: "Results", report: Path) -> None:
    from fanin.report.terminal import table, text

    console = terminal()
    console.print(table(results))
    console.print()
    for line in text(results):
        console.print(line, markup=False, soft_wrap=True)
    console.print(f"\nReport: {report}", markup=False)
    more = 2 * results.experiment.seeds
    console.print(f"Next:   fanin compare --seeds {more}   (adds runs to these, and decides more)", markup=False)
    console.print("        fanin compare --lr auto    (chooses the rates from a wide range)", markup=False)
