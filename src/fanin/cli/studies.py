"""`fanin studies` and `fanin study`: claims about initialization, and what comes of them."""

import json
from pathlib import Path
from typing import Annotated

import typer

from fanin.cli.common import command_line, interruptible, must_be_writable, out, progress_bar, terminal
from fanin.errors import InvalidValueError

__all__ = ["studies", "study"]


def studies(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead of a table.")] = False,
) -> None:
    """List the studies: what each asks, and the claim that it judges."""
    from fanin.report.study import studies_table
    from fanin.studies import STUDIES

    if as_json:
        out(
            json.dumps([{key: value for key, value in vars(each).items() if key != "run"} for each in STUDIES.values()])
        )
        return
    console = terminal()
    console.print(studies_table(STUDIES.values()))
    console.print("\nNext:   fanin study symmetry    (runs one; --full for the size of the original)", markup=False)


def study(
    name: Annotated[str, typer.Argument(help="One of fanin studies, or file.py:study for your own.")],
    quick: Annotated[bool, typer.Option("--quick", help="Small digits, under a minute; the default.")] = False,
    full: Annotated[bool, typer.Option("--full", help="The size of the original: MNIST or CIFAR-10.")] = False,
    seeds: Annotated[int, typer.Option(help="Paired repetitions; below 6 nothing is decided.")] = 8,
    store: Annotated[Path | None, typer.Option(help="File that keeps finished runs of comparisons.")] = None,
    report: Annotated[Path | None, typer.Option(help="HTML page to write as well.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead of text.")] = False,
) -> None:
    """Run one study and say whether its claim is supported, refuted or not decided.

    Examples:

      fanin study symmetry

      fanin study mnist-four-initializers --full --store studies.sqlite --report study.html

      fanin study mystudy.py:study --seeds 12
    """
    from fanin import api
    from fanin.studies import find

    if quick and full:
        raise InvalidValueError("Two sizes are given", given="--quick --full", allowed="one of them")
    must_be_writable([path for path in (store, report) if path is not None])
    chosen = find(name)
    with interruptible(), progress_bar() as progress:
        answer = api.study(name, full=full, seeds=seeds, store=store, progress=progress)
    if report is not None:
        from fanin.files import write_whole
        from fanin.report.study import page

        write_whole(report, page(chosen, answer, command_line()).encode())
    if as_json:
        out(json.dumps(answer.to_dict(), allow_nan=False))
        return
    from fanin.report.study import claims_table, text

    console = terminal()
    for line in text(chosen, answer):
        console.print(line, markup=False, soft_wrap=True)
    console.print(claims_table(answer))
    if report is not None:
        console.print(f"\nReport: {report}", markup=False)
