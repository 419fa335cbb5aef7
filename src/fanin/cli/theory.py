"""`fanin theory`: the card of an activation."""

import json
from pathlib import Path
from typing import Annotated

import typer

from fanin.cli.common import must_be_writable, out, terminal

__all__ = ["theory"]


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

        must_be_writable([phase_diagram])
        check_format(phase_diagram)
    card, diagram = api.theory(activation, with_diagram=phase_diagram is not None)
    if phase_diagram is not None and diagram is not None:
        from fanin.files import write_whole
        from fanin.report.figure import diagram_bytes

        write_whole(phase_diagram, diagram_bytes(diagram, phase_diagram.suffix[1:]))
    if as_json:
        out(json.dumps(card.to_dict() | ({"phase_diagram": diagram.to_dict()} if diagram else {}), allow_nan=False))
        return
    from fanin.report.theory import lines, tables

    console = terminal()
    for table in tables(card):
        console.print(table)
        console.print()
    for line in lines(card):
        console.print(line, markup=False, soft_wrap=True)
    if phase_diagram is not None:
        console.print(f"\nPhase diagram: {phase_diagram}", markup=False)
