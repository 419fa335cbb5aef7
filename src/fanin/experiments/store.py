"""Finished runs in one SQLite file: written one transaction each, never changed, read back by identity."""

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fanin.errors import StoreError
from fanin.records import Program, Run, RunResult

__all__ = ["SCHEMA", "Store"]

SCHEMA = 1
"""Version of the tables; a store of another version is refused, not converted in silence."""

_APPLICATION = int.from_bytes(b"fani", "big")
_TABLES = (
    """CREATE TABLE runs (
        id TEXT PRIMARY KEY, run TEXT NOT NULL, result TEXT NOT NULL, environment TEXT NOT NULL,
        finished TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
    ) WITHOUT ROWID""",
    "CREATE TABLE programs (key TEXT PRIMARY KEY, program TEXT NOT NULL) WITHOUT ROWID",
)


class Store:
    """Runs and their results.

    A process killed at any moment leaves every finished run whole and no other trace; write-ahead logging
    lets another process read meanwhile.

    Args:
        path: The file; made if it does not exist.

    Raises:
        StoreError: If the file is no store, is one of another version, or cannot be read or written.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        with self._errors("opened"):
            self._connection = sqlite3.connect(self.path, isolation_level=None, timeout=30, check_same_thread=False)
            self._prepare()

    def _prepare(self) -> None:
        try:
            # One transaction, so that two processes that open a new file do not both make its tables.
            self._connection.execute("BEGIN IMMEDIATE")
            application, version, empty = (
                self._connection.execute(query).fetchone()[0]
                for query in (
                    "PRAGMA application_id",
                    "PRAGMA user_version",
                    "SELECT count(*) = 0 FROM sqlite_master",
                )
            )
            if empty and application == 0:
                for statement in (
                    f"PRAGMA application_id = {_APPLICATION}",
                    f"PRAGMA user_version = {SCHEMA}",
                    *_TABLES,
                ):
                    self._connection.execute(statement)
            elif application != _APPLICATION:
                raise StoreError(
                    "The store is a database of something else",
                    given=str(self.path),
                    hint="Name another file with --store.",
                )
            elif version != SCHEMA:
                raise StoreError(
                    "The store is of another version",
                    given=f"{self.path} has version {version}",
                    allowed=f"version {SCHEMA}",
                    hint="Use the fanin that wrote it, or name another file with --store.",
                )
            self._connection.execute("COMMIT")
            # Refused while another process is opening the file, which then sets it for all.
            with suppress(sqlite3.OperationalError):
                self._connection.execute("PRAGMA journal_mode = WAL")
        except BaseException:
            self._connection.close()
            raise

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise StoreError(
                f"The store could not be {what}: {error}",
                given=str(self.path),
                allowed="a SQLite file written by fanin, or a new file in a folder that can be written to",
                hint="Name another file with --store.",
            ) from None

    def put(self, run: Run, result: RunResult, environment: dict[str, str]) -> None:
        """Keep a finished run; one that is there already stays as it is."""
        with self._errors("written"):
            self._connection.execute(
                "INSERT OR IGNORE INTO runs (id, run, result, environment) VALUES (?, ?, ?, ?)",
                (
                    run.id,
                    json.dumps(run.to_dict(), sort_keys=True),
                    result.to_json(),
                    json.dumps(environment),
                ),
            )

    def get(self, runs: Iterable[Run]) -> dict[Run, RunResult]:
        """The results of those runs that are there."""
        with self._errors("read"):
            found = {}
            for run in runs:
                row = self._connection.execute("SELECT result FROM runs WHERE id = ?", (run.id,)).fetchone()
                if row is not None:
                    found[run] = RunResult.from_json(row[0])
            return found

    def environments(self, runs: Iterable[Run]) -> list[dict[str, str]]:
        """The different environments in which these runs were made."""
        with self._errors("read"):
            rows = {
                row[0]
                for run in runs
                if (row := self._connection.execute("SELECT environment FROM runs WHERE id = ?", (run.id,)).fetchone())
            }
            return [json.loads(row) for row in sorted(rows)]

    def __len__(self) -> int:
        with self._errors("read"):
            return int(self._connection.execute("SELECT count(*) FROM runs").fetchone()[0])

    def program(self, key: str) -> Program | None:
        """The way of executing that is kept under a key."""
        with self._errors("read"):
            row = self._connection.execute("SELECT program FROM programs WHERE key = ?", (key,)).fetchone()
        return None if row is None else Program(**json.loads(row[0]))

    def keep_program(self, key: str, program: Program) -> Program:
        """Keep a way of executing, unless another process has kept one meanwhile; returns the one that holds."""
        with self._errors("written"):
            self._connection.execute("INSERT OR IGNORE INTO programs VALUES (?, ?)", (key, json.dumps(asdict(program))))
        return self.program(key) or program

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()
