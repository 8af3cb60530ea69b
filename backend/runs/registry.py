"""All runs of this user: a SQLite index over the run folders, which stay the truth.

The index can be deleted at any time. Run folders live in ``<home>/runs/<id>``; for one that lives
elsewhere (a config's ``training_folder``) a small file ``<home>/runs/<id>.json`` says where.
"""

from __future__ import annotations

import contextlib
import errno
import shutil
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from backend.events import Status
from backend.files import read_json, write_json
from backend.home import home
from backend.runs.folder import RunFolder, RunRecord
from backend.runs.notes import Notes, read_notes, write_notes

_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    backend TEXT NOT NULL,
    path TEXT NOT NULL,
    created REAL NOT NULL,
    steps INTEGER NOT NULL,
    status TEXT NOT NULL DEFAULT 'queued',
    reason TEXT,
    step INTEGER NOT NULL DEFAULT 0,
    loss REAL,
    seconds_per_step REAL,
    updated REAL NOT NULL DEFAULT 0,
    mark TEXT NOT NULL DEFAULT '',
    dollars REAL,
    tags TEXT NOT NULL DEFAULT '',
    archived INTEGER NOT NULL DEFAULT 0,
    budget REAL,
    kind TEXT NOT NULL DEFAULT 'train'
);
"""
_LATER = {  # columns that an index of an older version lacks
    "dollars": "REAL",
    "tags": "TEXT NOT NULL DEFAULT ''",
    "archived": "INTEGER NOT NULL DEFAULT 0",
    "budget": "REAL",
    "kind": "TEXT NOT NULL DEFAULT 'train'",
}
_COLUMNS = (
    "id, name, backend, path, created, steps, status, reason, step, loss, seconds_per_step, updated, mark, "
    "dollars, tags, archived, budget, kind"
)


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """A run as a list shows it.

    Attributes:
        id: Unique id.
        name: ``config.name``.
        backend: Name of the launcher.
        path: The run's folder.
        created: Seconds since 1970.
        steps: Updates of the whole run.
        status: Status at ``updated``.
        reason: Sentence that came with the status.
        step: Updates done.
        loss: Last loss; None before the first.
        seconds_per_step: Recent pace; None if unknown.
        updated: Time of the last event, seconds since 1970.
        mark: Size and time of the events file that this summary was made from.
        dollars: What it has cost so far, to the cent; None where it costs nothing or nobody knows.
        tags: The user's words on it.
        archived: Whether the user has put it away.
        budget: Dollars at which it saves and stops; None without a limit.
        kind: What it does: ``train`` or ``caption``.
    """

    id: str
    name: str
    backend: str
    path: Path
    created: float
    steps: int
    status: Status = Status.QUEUED
    reason: str | None = None
    step: int = 0
    loss: float | None = None
    seconds_per_step: float | None = None
    updated: float = 0.0
    mark: str = ""
    dollars: float | None = None
    tags: tuple[str, ...] = ()
    archived: bool = False
    budget: float | None = None
    kind: str = "train"


class RunNotFoundError(Exception):
    """No run, or more than one, fits what the user typed; the message says which."""


class Registry:
    """The index of all runs. Safe for many processes; every method opens its own connection.

    Every method raises OSError if the data folder cannot be used.

    Args:
        root: The data folder; ``FLUXLORA_HOME`` or the user's data folder if None.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or home()
        self._database = self.root / "runs.db"

    @property
    def runs_folder(self) -> Path:
        """Where run folders and pointers to folders elsewhere live."""
        return self.root / "runs"

    # Connections

    def _connect(self) -> sqlite3.Connection:
        self.root.mkdir(parents=True, exist_ok=True)
        fresh = not self._database.exists()
        connection = sqlite3.connect(self._database, timeout=15, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(_SCHEMA)
            _add_later_columns(connection)
        except sqlite3.OperationalError as error:
            connection.close()
            raise OSError(errno.EIO, f"cannot be opened ({error})", str(self._database)) from error
        except sqlite3.DatabaseError:
            # Not a database any more. Nothing is lost: the folders are the truth.
            connection.close()
            self._set_aside()
            return self._connect()
        if fresh:
            self._index_folders(connection)
        return connection

    def _set_aside(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            broken = self._database.with_name(self._database.name + suffix)
            if broken.exists():
                broken.replace(broken.with_name(f"{broken.name}.broken-{int(time.time())}"))

    @contextlib.contextmanager
    def _cursor(self) -> Iterator[sqlite3.Connection]:
        connection = self._connect()
        try:
            yield connection
        finally:
            connection.close()

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Let one process at a time start or resume runs; released also by a crash."""
        self.root.mkdir(parents=True, exist_ok=True)
        path = self.root / "launch.lock"
        lock = sqlite3.connect(path, timeout=30, isolation_level=None)
        try:
            try:
                lock.execute("BEGIN EXCLUSIVE")
            except sqlite3.Error as error:
                raise OSError(errno.EIO, f"cannot be locked ({error})", str(path)) from error
            yield
        finally:
            with contextlib.suppress(sqlite3.Error):
                lock.rollback()
            lock.close()

    # Folders

    def place(self, run_id: str, name: str, training_folder: str | None) -> Path:
        """The folder of a new run: below ``training_folder``, or in the data folder.

        Below a training folder it is ``<name>``, as ai-toolkit has it, or ``<name>-2``, ``<name>-3``
        when that exists: a new run never writes into an older one's folder.
        """
        if not training_folder:
            return self.runs_folder / run_id
        base = Path(training_folder).expanduser().absolute()
        candidate, number = base / name, 1
        while candidate.exists():
            number += 1
            candidate = base / f"{name}-{number}"
        return candidate

    def add(self, record: RunRecord) -> None:
        """Enter a new run; its folder and record must exist."""
        self.runs_folder.mkdir(parents=True, exist_ok=True)
        if record.path.parent != self.runs_folder:
            write_json(self.runs_folder / f"{record.id}.json", {"path": str(record.path)})
        with self._cursor() as connection:
            self._insert(connection, record)

    def delete(self, record: RunRecord) -> None:
        """Delete a run's folder and forget the run.

        The folder gets another name first: a crash in between leaves rubbish, never half a run.
        """
        if record.path.is_dir():
            rubbish = record.path.with_name(f".deleted-{record.id}")
            record.path.replace(rubbish)
            shutil.rmtree(rubbish)
        (self.runs_folder / f"{record.id}.json").unlink(missing_ok=True)
        with self._cursor() as connection:
            connection.execute("DELETE FROM runs WHERE id=?", (record.id,))

    def _insert(self, connection: sqlite3.Connection, record: RunRecord) -> None:
        notes = read_notes(record.path)
        connection.execute(
            "INSERT OR IGNORE INTO runs (id, name, backend, path, created, steps, tags, archived, kind)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                record.id,
                record.name,
                record.backend,
                str(record.path),
                record.created,
                record.steps,
                " ".join(notes.tags),
                notes.archived,
                record.kind,
            ),
        )

    def _index_folders(self, connection: sqlite3.Connection) -> int:
        count = 0
        try:
            entries = sorted(self.runs_folder.iterdir())
        except OSError:
            return 0
        for entry in entries:
            folder = entry
            if entry.suffix == ".json":
                pointer = read_json(entry)
                if not isinstance(pointer, dict) or not isinstance(pointer.get("path"), str):
                    continue
                folder = Path(pointer["path"])
            record = RunFolder(folder).read_record()
            if record is not None:
                self._insert(connection, record)
                count += 1
        return count

    def rebuild(self) -> int:
        """Forget the index and make it anew from the run folders; returns how many runs it found."""
        with self._cursor() as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("DELETE FROM runs")
            count = self._index_folders(connection)
            connection.execute("COMMIT")
        return count

    # Reading and updating

    def all(self) -> list[RunSummary]:
        """Every run whose folder is there, the newest first."""
        with self._cursor() as connection:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM runs ORDER BY created DESC, rowid DESC"
            ).fetchall()
        return [run for run in map(_summary, rows) if run.path.is_dir()]

    def save(self, run: RunSummary) -> None:
        """Store a run's summary."""
        with self._cursor() as connection:
            connection.execute(
                "UPDATE runs SET status=?, reason=?, step=?, steps=?, loss=?, seconds_per_step=?, updated=?,"
                " mark=?, dollars=?, budget=? WHERE id=?",
                (
                    run.status,
                    run.reason,
                    run.step,
                    run.steps,
                    run.loss,
                    run.seconds_per_step,
                    run.updated,
                    run.mark,
                    run.dollars,
                    run.budget,
                    run.id,
                ),
            )

    def write_notes(self, run_id: str, folder: Path, notes: Notes) -> None:
        """Write the user's notes into the run's folder, then enter them in the index."""
        write_notes(folder, notes)
        with self._cursor() as connection:
            connection.execute(
                "UPDATE runs SET tags=?, archived=? WHERE id=?",
                (" ".join(notes.tags), notes.archived, run_id),
            )

    def record(self, run: RunSummary) -> RunRecord:
        """The run's record from its folder.

        Raises:
            RunNotFoundError: The folder's record is gone or damaged.
        """
        record = RunFolder(run.path).read_record()
        if record is None:
            raise RunNotFoundError(f"the folder of run {run.id} has no readable record: {run.path}")
        return record

    def find(self, text: str) -> RunSummary:
        """The run that a person means: an id, a unique prefix of one, ``last``, or a unique name.

        Raises:
            RunNotFoundError: None fits, or several do.
        """
        runs = self.all()
        if not runs:
            raise RunNotFoundError("there are no runs yet")
        if text == "last":
            return runs[0]
        for fits in (
            [run for run in runs if run.id == text],
            [run for run in runs if text and run.id.startswith(text)],
            [run for run in runs if run.name == text],
        ):
            if len(fits) == 1:
                return fits[0]
            if fits:
                ids = ", ".join(run.id for run in fits[:5])
                raise RunNotFoundError(f"{text!r} fits {len(fits)} runs ({ids}); give more of the id")
        raise RunNotFoundError(f"no run fits {text!r}; see fluxlora-tui runs")


def _add_later_columns(connection: sqlite3.Connection) -> None:
    """Bring an index of an older version up to date; it is made from the folders, so defaults will do."""
    for name, kind in _LATER.items():
        if name not in {row[1] for row in connection.execute("PRAGMA table_info(runs)")}:
            with contextlib.suppress(sqlite3.OperationalError):  # another process was quicker
                connection.execute(f"ALTER TABLE runs ADD COLUMN {name} {kind}")


def _summary(row: tuple[object, ...]) -> RunSummary:
    values = dict(zip(_COLUMNS.split(", "), row, strict=True))
    values["path"] = Path(str(values["path"]))
    values["tags"] = tuple(str(values["tags"]).split())
    values["archived"] = bool(values["archived"])
    try:
        values["status"] = Status(str(values["status"]))
    except ValueError:
        values["status"] = Status.INTERRUPTED
    return replace(RunSummary(id="", name="", backend="", path=Path(), created=0, steps=0), **values)  # type: ignore[arg-type]
