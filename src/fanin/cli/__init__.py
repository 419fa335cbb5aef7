"""The command line: arguments to `fanin.api`, results to the terminal. Nothing is decided here."""

import sys
from typing import Any

from fanin.cli.check import check
from fanin.cli.common import app
from fanin.cli.compare import compare
from fanin.cli.listing import list_
from fanin.cli.plan import plan
from fanin.cli.studies import studies, study
from fanin.cli.theory import theory
from fanin.errors import FaninError

__all__ = ["app", "main"]

app.command()(compare)
app.command()(check)
app.command()(plan)
app.command()(theory)
app.command()(studies)
app.command()(study)
app.command("list")(list_)


def main() -> Any:
    """Run the command line; a user's mistake is one message and exit code 2."""
    try:
        app()
    except FaninError as error:
        sys.stderr.write(f"Error: {error}\n")
        sys.exit(2)
