"""What all commands share: the application, and how they write, ask and stop."""

import shlex
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fanin.errors import InvalidValueError, StoreError

if TYPE_CHECKING:
    from rich.console import Console

    from fanin.experiments.executor import Progress

__all__ = ["app", "command_line", "interruptible", "must_be_writable", "out", "progress_bar", "terminal"]

app = typer.Typer(
    name="fanin",
    help="Start every neural network well, and prove it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def terminal(stderr: bool = False) -> "Console":
    """Where to write for people; wide and plain where nobody looks on."""
    from rich.console import Console

    plain = not (sys.stderr if stderr else sys.stdout).isatty()
    return Console(stderr=stderr, highlight=False, width=160 if plain else None)


def out(text: str) -> None:
    """Write to standard output as it is, without wrapping or colour."""
    sys.stdout.write(text + "\n")


def must_be_writable(paths: list[Path]) -> None:
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
def interruptible() -> Iterator[None]:
    """Ctrl-C ends with a sentence and the usual exit code."""
    try:
        yield
    except KeyboardInterrupt:
        sys.stderr.write("\nStopped. Finished runs are kept; the same command continues.\n")
        raise typer.Exit(130) from None


@contextmanager
def progress_bar() -> Iterator["Progress"]:
    """A live bar on a terminal, a line now and then elsewhere; always on standard error."""
    from fanin.progress import Bar, Lines

    with Bar(terminal(stderr=True)) if sys.stderr.isatty() else Lines(sys.stderr) as progress:
        yield progress


def command_line() -> str:
    """The command as it was given, for the shell."""
    return shlex.join(["fanin", *sys.argv[1:]])
