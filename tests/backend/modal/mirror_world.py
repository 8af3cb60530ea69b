"""A run on Modal as its mirror meets it: containers that print, commit and die, and what is left of that."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field

from backend.launchers.modal import wire
from backend.launchers.modal.remote import LogPiece
from tests.backend.modal.fakes import FakeVolume

START_US = 1_760_000_000_000_000
FOLDER = "fox"


@dataclass
class World:
    """The run; numbers of lines and events are as in :mod:`backend.launchers.modal.wire`.

    Attributes:
        printed: The app's output, each entry a whole line.
        forgotten: Indices of ``printed`` that Modal does not deliver to anybody.
        volume: What has been committed.
    """

    random: random.Random
    printed: list[LogPiece] = field(default_factory=list)
    forgotten: set[int] = field(default_factory=set)
    volume: FakeVolume = field(default_factory=FakeVolume)
    now_us: int = START_US
    boot: int = 0
    line: int = 0
    event: int = 0
    sampled: int = 0
    loss: float = 0.0
    _log: bytes = b""
    _events: bytes = b""
    _sampler: bytes = b""
    _boots: list[dict[str, object]] = field(default_factory=list)
    lines: dict[tuple[int, int], str] = field(default_factory=dict)
    events: dict[int, bytes] = field(default_factory=dict)
    sampler_events: dict[int, str] = field(default_factory=dict)
    live: set[object] = field(default_factory=set)
    foreign: list[str] = field(default_factory=list)

    def launch(self, log: bytes, events: bytes) -> None:
        """The launcher's own files go up."""
        self._log, self._events = log, events
        self.volume.files[f"{FOLDER}/log.txt"] = log
        self.volume.files[f"{FOLDER}/events.jsonl"] = events

    def _print(self, text: str, what: object, container: str, later: int) -> None:
        self.now_us += later
        if self.random.random() < self.loss:
            self.forgotten.add(len(self.printed))
        else:
            self.live.add(what)
        self.printed.append(LogPiece(text, self.now_us, "stdout", container))

    def begin(self) -> None:
        """A new container takes the run up from what was committed."""
        files = self.volume.files
        self._log = files.get(f"{FOLDER}/log.txt", b"")
        self._events = files.get(f"{FOLDER}/events.jsonl", b"")
        if self._log and not self._log.endswith(b"\n"):
            self._log += b"\n"
        if self._events and not self._events.endswith(b"\n"):
            self._events += b"\n"
        self.boot += 1
        self.line = self.event = 0
        self._boots.append({"boot": self.boot, "task": f"ta-{self.boot}", "log_offset": len(self._log)})
        self.commit()
        files[f"{FOLDER}/state/boots.json"] = json.dumps({"boots": self._boots}).encode()

    def say(self, text: str, later: int) -> None:
        """The container logs a line."""
        self.line += 1
        self.lines[self.boot, self.line] = text
        self._log += text.encode() + b"\n"
        line = wire.log_line(self.boot, self.line, text).rstrip("\n")
        self._print(line, (self.boot, self.line), f"ta-{self.boot}", later)

    def report(self, later: int) -> None:
        """The container reports an event."""
        self.event += 1
        seq = self.boot * wire.SEQ_STRIDE + self.event
        line = json.dumps({"v": 1, "seq": seq, "t": 1.5, "type": "note", "é": self.event}, ensure_ascii=False)
        self.events[seq] = line.encode()
        self._events += line.encode() + b"\n"
        self._print(wire.event_line(line).rstrip("\n"), seq, f"ta-{self.boot}", later)

    def sample(self, later: int) -> None:
        """The sampler reports an event, which is committed at once."""
        self.sampled += 1
        line = json.dumps({"v": 1, "seq": self.sampled, "t": 1.5, "type": "picture", "n": self.sampled})
        self._sampler += line.encode() + b"\n"
        self.volume.files[f"{FOLDER}/state/sampler.jsonl"] = self._sampler
        self._print(wire.event_line(line, sampler=True).rstrip("\n"), None, "ta-s", later)

    def grumble(self, text: str, later: int) -> None:
        """Modal says something itself."""
        before = len(self.forgotten)
        self._print(text, None, "ta-x", later)
        if len(self.forgotten) == before:
            self.foreign.append(text)

    def commit(self, torn: int = 0) -> None:
        """The volume shows what was written; ``torn``: but for so many bytes at the end of the log."""
        shown = len(self.volume.files.get(f"{FOLDER}/log.txt", b""))
        self.volume.files[f"{FOLDER}/log.txt"] = self._log[: max(shown, len(self._log) - torn)]
        self.volume.files[f"{FOLDER}/events.jsonl"] = self._events

    # What the mirror must show in the end

    def truth(self) -> tuple[list[str], list[bytes]]:
        """The log's numbered lines and the trainer's events, as far as they exist anywhere."""
        committed = self._committed_lines()
        lines = []
        for place in sorted(self.lines.keys() | committed.keys()):
            if place in self.live:
                lines.append(self.lines[place])
            elif place in committed:
                lines.append(committed[place])
        kept = set(self.volume.files.get(f"{FOLDER}/events.jsonl", b"").split(b"\n"))
        events = [line for seq, line in sorted(self.events.items()) if seq in self.live or line in kept]
        return lines, events

    def _committed_lines(self) -> dict[tuple[int, int], str]:
        log = self.volume.files.get(f"{FOLDER}/log.txt", b"")
        ends = [int(str(boot["log_offset"])) for boot in self._boots[1:]] + [len(log)]
        found = {}
        for boot, end in zip(self._boots, ends, strict=True):
            segment = log[int(str(boot["log_offset"])) : end]
            for number, raw in enumerate(segment.split(b"\n")[:-1], 1):
                found[int(str(boot["boot"])), number] = raw.decode("utf-8", "replace")
        return found
