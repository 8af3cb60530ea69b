"""``state/boots.json``: the containers that took the run up, each entered before it does anything else."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from backend.files import read_json, write_json

CRASHED, NOT_ENTERED = "crashed", "not entered"

_FINE = frozenset({"finished", "stopped", "failed", "preempted", "cancelled", NOT_ENTERED})


@dataclass(frozen=True)
class Boot:
    """One container of the run.

    Attributes:
        boot: Its number, from 1.
        task: Modal's id of the container.
        started: Seconds since 1970.
        log_offset: Bytes of ``log.txt`` when it began.
        gpu: Name of its GPU.
        launch: Which launch of the run it belongs to: a resume is another one.
        saved: Updates that were saved when it began.
        call: Modal's id of the call that it works on: whoever finds the run elsewhere asks by it.
        end: How it ended: ``finished``, ``stopped``, ``failed``, ``preempted``, ``cancelled``, ``crashed``
            (its trainer did), ``not entered`` (it did nothing); None if it never said.
        ended: When it ended.
    """

    boot: int
    task: str
    started: float
    log_offset: int
    gpu: str = ""
    launch: float = 0.0
    saved: int = 0
    call: str = ""
    end: str | None = None
    ended: float | None = None


class Boots:
    """The list in the file; a damaged file counts as empty.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.all = _read(path)

    def of_launch(self, launch: float) -> list[Boot]:
        """The containers of one launch, in order."""
        return [boot for boot in self.all if boot.launch == launch]

    def add(self, boot: Boot, log_offset: int) -> Boot:
        """Enter a container whose lines begin at that byte of the log.

        Raises:
            OSError: The disk is full.
        """
        boot = replace(boot, log_offset=log_offset)
        self._write([*self.all, boot])
        return boot

    def end(self, number: int, end: str, at: float) -> None:
        """Enter how a container ended.

        Raises:
            OSError: The disk is full.
        """
        self._write([replace(b, end=end, ended=at) if b.boot == number else b for b in self.all])

    def _write(self, boots: list[Boot]) -> None:
        write_json(self._path, {"boots": [asdict(boot) for boot in boots]})
        self.all = boots


def stuck(before: list[Boot], saved: int, reached: dict[int, int]) -> int | None:
    """The step at which the last two containers broke down, the second no further than the first.

    Args:
        before: The containers of this launch so far, in order.
        saved: Updates saved now.
        reached: For each container, the last step that it is known to have done.

    Returns:
        The step; None if it is worth another try.
    """
    if len(before) < 2 or any(boot.end in _FINE for boot in before[-2:]):
        return None
    first, second = before[-2:]
    last = reached.get(second.boot, saved)
    if first.saved == second.saved == saved and last <= reached.get(first.boot, saved):
        return last
    return None


_NAMES = tuple(field.name for field in fields(Boot))


def _read(path: Path) -> list[Boot]:
    document = read_json(path)
    entries = document.get("boots") if isinstance(document, dict) else None
    boots = []
    for entry in entries if isinstance(entries, list) else []:
        try:
            values = {name: entry[name] for name in _NAMES if name in entry}
            boots.append(Boot(**values))
        except (TypeError, KeyError):
            continue
    return boots
