"""One SQLite connection with its lock, its transactions and its numbered migrations; knows no table's meaning."""

import contextlib
import os
import sqlite3
import threading
from collections.abc import Generator, Sequence
from pathlib import Path

from codex_space.core import mounts
from codex_space.core.errors import WorkspaceError
from codex_space.store.migrations import MIGRATIONS

BUSY_TIMEOUT_S = 10.0
Value = str | int | float | bytes | None


class DamagedError(WorkspaceError):
    """The file is no database, or a damaged one."""


class Database:
    """The workspace's database, shared by all threads of this process."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        """Wrap an open connection; `Database.open` is the way in."""
        self._connection = connection
        self._lock = threading.RLock()
        self._depth = 0
        self.path = path

    @classmethod
    def open(cls, path: Path) -> "Database":
        """Open or create the file (readable by this user only) and bring its tables up to date.

        Raises:
            WorkspaceError: Not a database, written by a newer version, or the folder cannot be written or is no local disk.
        """
        mounts.require_disk(path.parent)
        try:
            # SQLite gives its -wal and -shm files the mode of the main file, so this covers all three.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            path.chmod(0o600)
        except OSError as error:
            raise WorkspaceError(
                f"the database cannot be written: {error.strerror}",
                where=str(path),
                cure="Choose a folder you may write to with --workspace.",
            ) from error
        connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        connection.row_factory = sqlite3.Row
        db = cls(connection, path)
        try:
            with db._explained():
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")
                connection.execute("PRAGMA foreign_keys = ON")
            db._migrate()
        except BaseException:
            connection.close()
            raise
        return db

    @contextlib.contextmanager
    def transaction(self) -> Generator[sqlite3.Cursor]:
        """Yield a cursor inside BEGIN IMMEDIATE; an inner transaction is part of the outer one.

        Raises:
            WorkspaceError: The disk is full, the file is damaged, or another process held it too long.
        """
        with self._lock, self._explained(), contextlib.closing(self._connection.cursor()) as cursor:
            if self._depth:
                yield cursor
                return
            cursor.execute("BEGIN IMMEDIATE")
            self._depth = 1
            try:
                yield cursor
                cursor.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # SQLite itself rolls back when the disk is full
                    cursor.execute("ROLLBACK")
                raise
            finally:
                self._depth = 0

    def query(self, sql: str, params: Sequence[Value] = ()) -> list[sqlite3.Row]:
        """Return all rows of a SELECT.

        Raises:
            WorkspaceError: As in `transaction`.
        """
        with self._lock, self._explained():
            return self._connection.execute(sql, params).fetchall()

    def copy_to(self, path: Path) -> None:
        """Write a consistent copy, while others read and write.

        Raises:
            WorkspaceError: As in `transaction`.
        """
        with contextlib.closing(sqlite3.connect(path)) as copy, self._explained():
            self._connection.backup(copy)

    def close(self) -> None:
        """Close the connection; calls after this fail."""
        with self._lock:
            self._connection.close()

    def _migrate(self) -> None:
        with self.transaction() as cursor:
            cursor.execute("CREATE TABLE IF NOT EXISTS migrations (number INTEGER PRIMARY KEY)")
        for number, statements in enumerate(MIGRATIONS, start=1):
            with self.transaction() as cursor:
                # Asked inside the transaction: two processes may open a new workspace at once.
                done = cursor.execute("SELECT coalesce(max(number), 0) FROM migrations").fetchone()[0]
                if done > len(MIGRATIONS):
                    raise WorkspaceError(
                        f"a newer version of this program made this database (step {done} of {len(MIGRATIONS)})",
                        where=str(self.path),
                        cure="Update this program, or choose another folder with --workspace.",
                    )
                if done >= number:
                    continue
                for statement in statements:
                    cursor.execute(statement)
                cursor.execute("INSERT INTO migrations (number) VALUES (?)", (number,))

    @contextlib.contextmanager
    def _explained(self) -> Generator[None]:
        """Turn what a person can do something about into a sentence; our own mistakes in SQL stay as they are."""
        try:
            yield
        except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
            raise
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            cure = _CURES.get(code)
            if cure is None:
                raise
            kind = DamagedError if code in {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT} else WorkspaceError
            raise kind(f"the database cannot be used: {error}", where=str(self.path), cure=cure) from error


_REBUILD = "`codex-space workspace rebuild` sets it aside and makes a new one from the run folders."
_CURES = {
    sqlite3.SQLITE_FULL: "Free some space on the disk.",
    sqlite3.SQLITE_IOERR: "Free some space on the disk, or look for a failing one.",
    sqlite3.SQLITE_BUSY: "Another program holds the workspace; try again when it has ended.",
    sqlite3.SQLITE_READONLY: "Choose a folder you may write to with --workspace.",
    sqlite3.SQLITE_CANTOPEN: "Choose a folder you may write to with --workspace.",
    sqlite3.SQLITE_NOTADB: _REBUILD,
    sqlite3.SQLITE_CORRUPT: _REBUILD,
}
