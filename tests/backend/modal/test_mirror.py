"""The local copy of a run's log and events: complete, in order and once, whenever its writer dies."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backend.events import PhaseEvent, Status, StatusEvent, decode
from backend.launchers.modal import mirror as mirror_module
from backend.launchers.modal import mirrored, wire
from backend.launchers.modal.cursor import Cursor
from backend.launchers.modal.mirror import KeptLine, Mirror, Newest
from backend.launchers.modal.remote import LogPiece
from backend.launchers.modal.volume_reader import VolumeReader
from backend.launchers.modal.wire import SEQ_STRIDE
from backend.runs.folder import RunFolder
from tests.backend.modal.mirror_world import FOLDER, START_US, World

NOWHERE = re.compile(r"modal: \d+ (lines|events) .* are nowhere to be found")
IN_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # many small files, none of them to be kept
LAUNCH_LOG = b"12:00:00 INFO    checking\n12:00:01 INFO    uploading\n"
LAUNCH_EVENTS = (
    b'{"v":1,"seq":0,"t":1.0,"type":"phase","phase":"checking","done":0,"total":0,"detail":null}\n'
)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(tmp_path / "run")
    made.create()
    return made


@pytest.fixture
def mirror(folder: RunFolder) -> Iterator[Mirror]:
    folder.events.write_bytes(LAUNCH_EVENTS)
    made = Mirror(folder, FOLDER)
    yield made
    made.close()


def live(*texts: str, at_us: int = START_US) -> list[LogPiece]:
    return [LogPiece(text, at_us + number, "stdout", "ta-1") for number, text in enumerate(texts)]


def event(seq: int, *, sampler: bool = False) -> str:
    return wire.event_line(json.dumps({"v": 1, "seq": seq, "t": 1.5, "type": "x"}), sampler=sampler).rstrip()


def log_of(folder: RunFolder) -> list[str]:
    return folder.log.read_text("utf-8").split("\n")[:-1]


def seqs_of(folder: RunFolder) -> list[int]:
    return [json.loads(line)["seq"] for line in folder.events.read_bytes().splitlines()]


# Order


def test_lines_and_events_are_written_once_and_in_order(mirror: Mirror, folder: RunFolder) -> None:
    mirror.take(live("[1.1] a", event(SEQ_STRIDE + 1), "[1.2] b", "[1.1] a", event(SEQ_STRIDE + 1)))
    mirror.take(live("[1.2] b", "[1.3] c", event(SEQ_STRIDE + 2)))

    assert log_of(folder) == ["a", "b", "c"]
    assert seqs_of(folder) == [0, SEQ_STRIDE + 1, SEQ_STRIDE + 2]
    assert not mirror.waiting


def test_what_comes_after_a_gap_waits_for_the_volume(mirror: Mirror, folder: RunFolder) -> None:
    mirror.take(live("[1.1] a", "[1.4] d", event(SEQ_STRIDE + 2)))
    assert log_of(folder) == ["a"]
    assert mirror.waiting

    mirror.take_kept_lines([KeptLine(1, 1, "a"), KeptLine(1, 2, "b"), KeptLine(1, 3, "c")])
    mirror.take_kept_events([event(SEQ_STRIDE + 1)[2:].encode()])

    assert log_of(folder) == ["a", "b", "c", "d"]
    assert seqs_of(folder) == [0, SEQ_STRIDE + 1, SEQ_STRIDE + 2]
    assert not mirror.waiting


def test_a_new_container_waits_until_the_old_one_is_settled(mirror: Mirror, folder: RunFolder) -> None:
    mirror.take(live("[1.1] a", event(SEQ_STRIDE + 1), "[2.1] A", event(2 * SEQ_STRIDE + 1)))
    assert log_of(folder) == ["a"]
    newest = mirror.newest()
    assert newest == Newest(2, 0)

    mirror.take(live("[1.2] b", event(SEQ_STRIDE + 2)))  # what it never committed
    mirror.settle(newest)

    assert log_of(folder) == ["a", "b", "A"]
    assert seqs_of(folder) == [0, SEQ_STRIDE + 1, SEQ_STRIDE + 2, 2 * SEQ_STRIDE + 1]


def test_a_gap_that_nobody_can_fill_is_named(mirror: Mirror, folder: RunFolder) -> None:
    mirror.take(live("[1.1] a", "[1.4] d", event(SEQ_STRIDE + 3)))
    mirror.finish()

    assert log_of(folder) == [
        "a",
        "modal: 2 lines of the log before number 4 of container 1 are nowhere to be found",
        "d",
    ] or Counter(log_of(folder)) == Counter(
        [
            "a",
            "modal: 2 lines of the log before number 4 of container 1 are nowhere to be found",
            "d",
            "modal: 2 events of the trainer before number 3 of container 1 are nowhere to be found",
        ]
    )
    assert seqs_of(folder) == [0, SEQ_STRIDE + 3]


def test_what_is_said_when_a_newer_container_is_there_already(mirror: Mirror, folder: RunFolder) -> None:
    mirror.take(live("[1.1] a", event(SEQ_STRIDE + 1), "[2.1] A", event(2 * SEQ_STRIDE + 1)))
    mirror.settle(mirror.newest())
    mirror.take_kept_lines([KeptLine(1, 1, "a")])  # the volume from its beginning: nothing new
    assert log_of(folder) == ["a", "A"]

    mirror.take(live("[1.2] late", "[1.2] late", event(SEQ_STRIDE + 2)))
    mirror.take_kept_lines([KeptLine(1, 1, "a"), KeptLine(1, 2, "late")])
    mirror.close()
    again = Mirror(folder, FOLDER)
    again.take(live("[1.2] late", "[1.3] later", "[2.2] B"))
    again.close()

    assert log_of(folder) == ["a", "A", "modal: [1.2] late", "modal: [1.3] later", "B"]
    assert seqs_of(folder) == [0, SEQ_STRIDE + 1, 2 * SEQ_STRIDE + 1]  # the late event is superseded


def test_the_last_line_of_a_dead_container_may_be_half_of_one(mirror: Mirror, folder: RunFolder) -> None:
    mirror.take(live("[1.1] a"))
    mirror.take_kept_lines([KeptLine(1, 1, "a"), KeptLine(1, 2, "hal", doubtful=True), KeptLine(2, 1, "A")])
    assert log_of(folder) == ["a"]
    mirror.take(live("[1.2] half and half"))
    mirror.settle(mirror.newest())

    assert log_of(folder) == ["a", "half and half", "A"]


def test_a_container_that_says_nothing_is_passed_over(mirror: Mirror, folder: RunFolder) -> None:
    mirror.take(live("[1.1] a", "[3.1] x"))
    mirror.settle(mirror.newest())
    mirror.take_kept_lines([KeptLine(2, 1, "I did speak")])

    assert log_of(folder) == ["a", "x", "modal: [2.1] I did speak"]


def test_foreign_lines_are_shown_as_such_and_progress_bars_as_their_last_state(
    mirror: Mirror, folder: RunFolder
) -> None:
    mirror.take(live("Runner started", "   ", " 1%\r 50%\r100%", "[1.1] modal: not really"))

    assert log_of(folder) == ["modal: Runner started", "modal: 100%", " modal: not really"]


def test_the_samplers_events_keep_out_of_the_trainers_numbering(mirror: Mirror, folder: RunFolder) -> None:
    mirror.take(live(event(SEQ_STRIDE + 1), event(2, sampler=True), event(1, sampler=True)))
    mirror.take_kept_events([event(1, sampler=True)[3:].encode()], sampler=True)
    mirror.close()
    again = Mirror(folder, FOLDER)
    again.take(live(event(2, sampler=True), event(3, sampler=True)))
    again.close()

    records = [json.loads(line) for line in folder.events.read_bytes().splitlines()[1:]]
    assert [(r["seq"], r.get("sampler")) for r in records] == [(SEQ_STRIDE + 1, None), (0, 1), (0, 2), (0, 3)]


def test_what_is_no_event_is_no_event(mirror: Mirror, folder: RunFolder) -> None:
    before = folder.events.read_bytes()
    mirror.take(
        live('@@{"seq":1000001', "@@{}", '@@{"seq":"x"}', '@@{"seq":-5}', '@@{"seq":7,"type":"x"}', "@@s[]")
    )
    mirror.finish()

    assert folder.events.read_bytes() == before


def test_the_launchers_own_words_go_anywhere(mirror: Mirror, folder: RunFolder) -> None:
    mirror.note("before\nwards")
    mirror.take(live("[1.1] a", event(SEQ_STRIDE + 1)))
    mirror.note("offline")
    mirror.say(PhaseEvent(seq=99, phase="waiting"))
    mirror.take(live("[1.2] b", event(SEQ_STRIDE + 2)))
    mirror.close()
    again = Mirror(folder, FOLDER)
    again.take(live("[1.2] b", "[1.3] c", event(SEQ_STRIDE + 2), event(SEQ_STRIDE + 3)))
    again.close()

    assert log_of(folder) == ["before wards", "a", "offline", "b", "c"]
    assert seqs_of(folder) == [0, SEQ_STRIDE + 1, 0, SEQ_STRIDE + 2, SEQ_STRIDE + 3]
    assert decode(folder.events.read_bytes().splitlines()[2]) is not None


def test_the_beginning_is_copied_where_there_is_none(folder: RunFolder) -> None:
    mirror = Mirror(folder, FOLDER)
    mirror.take(live(event(SEQ_STRIDE + 1)))
    assert not folder.events.read_bytes()  # the launch comes first
    mirror.take_heads(LAUNCH_LOG, LAUNCH_EVENTS)
    mirror.take_heads(LAUNCH_LOG, LAUNCH_EVENTS)
    mirror.take(live("[1.1] a"))
    mirror.close()

    assert folder.log.read_bytes() == LAUNCH_LOG + b"a\n"
    assert seqs_of(folder) == [0, SEQ_STRIDE + 1]


def test_only_so_much_waits_and_the_rest_is_asked_for_again(folder: RunFolder) -> None:
    folder.events.write_bytes(LAUNCH_EVENTS)
    mirror = Mirror(folder, FOLDER, held_bytes=50_000)
    texts = [f"{number} {'x' * 100}" for number in range(1, 1001)]
    mirror.take(live(*(f"[1.{n}] {text}" for n, text in enumerate(texts, 1) if n > 1)))
    assert mirror.refused
    assert len(mirror._lines._held[1]) < 200

    mirror.room()
    mirror.take_kept_lines([KeptLine(1, n, text) for n, text in enumerate(texts, 1)])
    mirror.close()

    assert not mirror.refused
    assert log_of(folder) == texts
    since = mirror.since_us
    assert since is not None
    assert since < START_US + 1000


# Crashes


def test_a_half_written_line_is_written_again(folder: RunFolder) -> None:
    folder.events.write_bytes(LAUNCH_EVENTS)
    mirror = Mirror(folder, FOLDER)
    lines = live(
        "[1.1] eins", event(SEQ_STRIDE + 1), "[1.2] zwei", "Modal says", "[1.3] drei", event(SEQ_STRIDE + 2)
    )
    mirror.take(lines)
    mirror.close()
    log, events = folder.log.read_bytes(), folder.events.read_bytes()

    for size in range(len(log) + 1):
        for cut in (0, 7):
            folder.log.write_bytes(log[:size])
            folder.events.write_bytes(events[: len(events) - cut])
            again = Mirror(folder, FOLDER)
            again.take(lines)
            again.close()
            assert folder.log.read_bytes() == log
            assert folder.events.read_bytes() == events


def test_a_damaged_cursor_means_beginning_anew(folder: RunFolder) -> None:
    folder.events.write_bytes(LAUNCH_EVENTS)
    mirror = Mirror(folder, FOLDER)
    lines = live("[1.1] a", event(SEQ_STRIDE + 1), "[1.2] b")
    mirror.take(lines)
    mirror.close()
    (folder.state / "mirror.json").write_text('{"version": 1, "segm')

    again = Mirror(folder, FOLDER)
    assert again.since_us is None
    again.take(lines)
    again.close()

    assert log_of(folder) == ["a", "b"]
    assert seqs_of(folder) == [0, SEQ_STRIDE + 1]


def test_what_the_launcher_wrote_before_there_was_a_mirror_stays(folder: RunFolder) -> None:
    folder.log.write_bytes(LAUNCH_LOG)
    folder.events.write_bytes(LAUNCH_EVENTS)
    mirror = Mirror(folder, FOLDER)
    mirror.take_heads(LAUNCH_LOG, LAUNCH_EVENTS)
    mirror.take(live("[1.1] a"))
    mirror.close()

    assert folder.log.read_bytes() == LAUNCH_LOG + b"a\n"
    assert folder.events.read_bytes() == LAUNCH_EVENTS


def test_events_that_other_writers_appended_meanwhile_count(folder: RunFolder) -> None:
    mirror = Mirror(folder, FOLDER)
    mirror.say(StatusEvent(status=Status.QUEUED))
    mirror.take_heads(b"", b"")
    mirror.take(live(event(SEQ_STRIDE + 1)))
    mirror.close()
    with folder.events.open("ab") as file:
        file.write(event(SEQ_STRIDE + 2)[2:].encode() + b"\n" + LAUNCH_EVENTS)

    again = Mirror(folder, FOLDER)
    again.take(live(event(SEQ_STRIDE + 2), event(SEQ_STRIDE + 3)))
    again.close()

    assert seqs_of(folder) == [0, SEQ_STRIDE + 1, SEQ_STRIDE + 2, 0, SEQ_STRIDE + 3]


def test_the_cursor_stays_small(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror_module, "_SAVE_EVERY", 0.0)
    monkeypatch.setattr(mirrored, "_REST_EVERY", 1000)
    folder.events.write_bytes(LAUNCH_EVENTS)
    mirror = Mirror(folder, FOLDER)
    for number in range(1, 1001):
        mirror.take(live(f"[1.{number}] {'x' * 50}", "foreign", at_us=START_US + number * 1_000_000))
        if number % 10 == 0:
            mirror.note("own")
    mirror.close()
    assert (folder.state / "mirror.json").stat().st_size < 40_000

    again = Mirror(folder, FOLDER)
    again.take(live("[1.1000] x", "[1.1001] end", at_us=START_US + 1001 * 1_000_000))
    again.close()
    assert len(log_of(folder)) == 2101


# Anything may happen


class Crash(BaseException):
    """The viewer's process is killed."""


class Fuse:
    """Kills at the n-th write, in the middle of it."""

    def __init__(self) -> None:
        self.left: int | None = None
        self.part = 0.0

    def burn(self) -> bool:
        if self.left is None:
            return False
        self.left -= 1
        return self.left < 0


@contextlib.contextmanager
def fused(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fuse]:
    fuse = Fuse()
    append, save = mirrored.Appender.append, Cursor.save

    def fused_append(self: mirrored.Appender, data: bytes) -> None:
        if fuse.burn():
            append(self, data[: int(len(data) * fuse.part)])
            raise Crash
        append(self, data)

    def fused_save(self: Cursor, path: Path, *, durable: bool) -> None:
        if fuse.burn():
            if fuse.part > 0.5:
                save(self, path, durable=False)
            raise Crash
        save(self, path, durable=False)  # a thousand lives of a disk's syncs take too long

    with monkeypatch.context() as patch:
        patch.setattr(mirrored.Appender, "append", fused_append)
        patch.setattr(Cursor, "save", fused_save)
        patch.setattr(mirror_module, "_SAVE_EVERY", 0.0)
        yield fuse


class Viewer:
    """One life after the other of a process that mirrors the run."""

    OVERLAP_US = 30_000_000

    def __init__(self, folder: RunFolder, world: World) -> None:
        self.folder, self.world = folder, world
        self.notes = 0
        self.own = folder.log.stat().st_size if folder.log.exists() else 0
        self.own_events = folder.events.stat().st_size if folder.events.exists() else 0
        self.begin()

    def begin(self) -> None:
        self.mirror = Mirror(self.folder, FOLDER)
        self.reader = VolumeReader(self.world.volume, FOLDER)
        since = self.mirror.since_us
        self.floor = 0 if since is None else since - self.OVERLAP_US
        self.delivered: set[int] = set()
        self.place = len(self.world.printed)  # a stream without history
        if not self.own:  # a run from elsewhere: its beginning comes first
            self.poll()

    def take(self, indices: list[int]) -> None:
        new = [
            index
            for index in indices
            if index not in self.delivered
            and index not in self.world.forgotten
            and self.world.printed[index].at_us >= self.floor
        ]
        self.delivered.update(new)
        self.mirror.take([self.world.printed[index] for index in new])

    def history(self) -> None:
        self.take(list(range(len(self.world.printed))))
        self.place = len(self.world.printed)

    def stream(self, count: int, shuffle: random.Random) -> None:
        if not self.delivered.issuperset(range(self.place)):
            self.history()  # comes first with every connection, so the stream never runs ahead of a hole
        indices = list(range(self.place, min(self.place + count, len(self.world.printed))))
        self.place += len(indices)
        shuffle.shuffle(indices)
        self.take(indices)

    def repeat(self, count: int, shuffle: random.Random) -> None:
        """Numbered lines once more, which the tail prevents; the mirror would not mind."""
        ours = [
            p
            for p in self.world.printed[: self.place]
            if not isinstance(wire.parse(p.text), wire.ForeignLine)
        ]
        known = {self.world.printed[index] for index in self.delivered}
        self.mirror.take([p for p in shuffle.sample(ours, min(count, len(ours))) if p in known])

    def poll(self) -> None:
        async def read() -> None:
            async for portion in self.reader.read():
                if portion.boots:
                    self.mirror.heard_of(portion.boots[-1].number)
                if portion.log_head or portion.event_head or portion.boots:
                    self.mirror.take_heads(portion.log_head, portion.event_head)
                self.mirror.take_kept_lines(portion.lines)
                self.mirror.take_kept_events(portion.events)
                self.mirror.take_kept_events(portion.sampler_events, sampler=True)

        asyncio.run(read())

    def settle(self) -> None:
        newest = self.mirror.newest()
        self.history()
        self.poll()
        self.mirror.settle(newest)

    def note(self) -> None:
        self.mirror.note(f"own {self.notes}")
        self.notes += 1

    def die(self, cut_log: int, cut_events: int) -> None:
        """The end of a life; ``cut_``: bytes that the machine did not keep."""
        for file in (self.mirror._log_file, self.mirror._event_file):
            file.close()
        for path, cut, least in (
            (self.folder.log, cut_log, self.own),
            (self.folder.events, cut_events, self.own_events),
        ):
            data = path.read_bytes()
            path.write_bytes(data[: max(least, len(data) - cut)])
        self.begin()


LINES = st.sampled_from(["", "a", "step 5", "modal: me", " lead", "é\u2028x", "[1.2] nested", "@@{"])
LATER = st.sampled_from([0, 1, 1_000, 5_000_000, 50_000_000])
DELIVERIES = st.one_of(
    st.tuples(st.just("stream"), st.integers(1, 8)),
    st.sampled_from([("history",), ("poll",), ("settle",), ("note",)]),
)
ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("say"), LINES, LATER),
        st.tuples(st.just("say"), LINES, LATER),
        st.tuples(st.just("report"), LATER),
        st.tuples(st.just("report"), LATER),
        st.tuples(st.just("sample"), LATER),
        st.tuples(st.just("grumble"), st.sampled_from(["Runner", "OOM"]), LATER),
        st.tuples(st.just("commit"), st.integers(0, 9)),
        st.tuples(st.just("boot"), st.booleans(), st.lists(LINES, max_size=3)),
        st.tuples(st.just("boot"), st.booleans(), st.lists(LINES, max_size=3)),
        st.tuples(st.just("repeat"), st.integers(1, 8)),
        st.sampled_from([("note",), ("rewind",)]),
        DELIVERIES,
        DELIVERIES,
        st.tuples(st.just("killed in"), DELIVERIES, st.integers(0, 4), st.sampled_from([0.0, 0.3, 0.8, 1.0])),
        st.tuples(st.just("killed in"), DELIVERIES, st.integers(0, 4), st.sampled_from([0.0, 0.3, 0.8, 1.0])),
        st.tuples(st.just("die"), st.integers(0, 40), st.integers(0, 150)),
    ),
    min_size=5,
    max_size=60,
)


@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    acts=ACTS,
    seed=st.integers(0, 2**32),
    loss=st.sampled_from([0.0, 0.0, 0.2]),
    adopted=st.booleans(),
    orderly=st.booleans(),
)
def test_nothing_is_lost_and_nothing_comes_twice(
    monkeypatch: pytest.MonkeyPatch, acts: list[Any], seed: int, loss: float, adopted: bool, orderly: bool
) -> None:
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as place, fused(monkeypatch) as fuse:
        folder = RunFolder(Path(place))
        folder.create()
        world = World(chance, loss=loss)
        world.launch(LAUNCH_LOG, LAUNCH_EVENTS)
        if not adopted:
            folder.log.write_bytes(LAUNCH_LOG)
            folder.events.write_bytes(LAUNCH_EVENTS)
        viewer = Viewer(folder, world)
        world.begin()
        may_lose_notes = False

        def act(step: tuple[Any, ...]) -> None:
            match step:
                case ("say", text, later):
                    world.say(text, later)
                case ("report", later):
                    world.report(later)
                case ("sample", later):
                    world.sample(later)
                case ("grumble", text, later):
                    world.grumble(text, later)
                case ("commit", torn):
                    world.commit(torn)
                case ("boot", committed, texts):
                    if committed:
                        world.commit()
                    world.begin()
                    for text in texts:
                        world.say(text, 1_000)
                        world.report(1_000)
                case ("stream", count):
                    viewer.stream(count, chance)
                case ("repeat", count):
                    viewer.repeat(count, chance)
                case ("history",):
                    viewer.history()
                case ("poll",):
                    viewer.poll()
                case ("settle",):
                    viewer.settle()
                case ("note",):
                    viewer.note()
                case ("rewind",):
                    viewer.reader.rewind()
                case ("killed in", delivery, left, part):
                    fuse.left, fuse.part = left, part
                    act(delivery)
                    raise Crash
                case ("die", cut_log, cut_events):
                    fuse.left = None
                    viewer.die(cut_log, cut_events)

        for step in acts:
            may_lose_notes |= step[0] in ("killed in", "die")
            try:
                act(step)
            except Crash:
                fuse.left = None
                viewer.die(0, 0)
        if orderly:
            world.commit()
        viewer.settle()
        viewer.poll()
        viewer.mirror.finish()
        viewer.mirror.close()

        log = log_of(folder)
        head = LAUNCH_LOG.decode().splitlines()
        assert log[: len(head)] == head
        log = log[len(head) :]
        notes = [line for line in log if line.startswith("own ")]
        foreign = [line for line in log if line.startswith("modal: ") and not NOWHERE.match(line)]
        numbered = [line for line in log if not line.startswith(("modal: ", "own "))]
        lines, events = world.truth()
        assert [line[1:] if line.startswith(" modal: ") else line for line in numbered] == lines
        assert Counter(foreign) == Counter(f"modal: {text}" for text in world.foreign)
        if not may_lose_notes:
            assert notes == [f"own {n}" for n in range(viewer.notes)]
        records = [line for line in folder.events.read_bytes().split(b"\n") if line]
        assert [line for line in records if b'"phase"' in line] == [LAUNCH_EVENTS.strip()]
        assert [line for line in records if b'"note"' in line] == events
        pictures = [json.loads(line)["n"] for line in records if b'"picture"' in line]
        assert pictures == list(range(1, world.sampled + 1))
        if not loss:
            assert not any(NOWHERE.match(line) for line in log)


# Speed


def test_a_hundred_thousand_lines_take_seconds_and_no_memory(folder: RunFolder) -> None:
    folder.events.write_bytes(LAUNCH_EVENTS)
    mirror = Mirror(folder, FOLDER)
    count = 100_000
    batches = [
        live(
            *(
                f"[1.{n + 1}] 12:00:00 INFO    step {n} loss 0.123456 lr 0.0001"
                for n in range(first, first + 500)
            ),
            at_us=START_US + first * 100,
        )
        for first in range(0, count, 500)
    ]
    began = time.process_time()
    for batch in batches:
        mirror.take(batch)
    mirror.close()

    assert time.process_time() - began < count / 12_000  # twice what three busy runs need
    assert len(log_of(folder)) == count
