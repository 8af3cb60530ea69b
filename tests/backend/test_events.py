from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.events import (
    AttemptEvent,
    CheckpointEvent,
    ErrorEvent,
    Event,
    PhaseEvent,
    SampleEvent,
    Status,
    StatusEvent,
    StepEvent,
    UnknownEvent,
    WarningEvent,
    decode,
    encode,
)
from backend.runs.stream import EventTail, EventWriter
from backend.runs.view import RunView, step_rows

EVERY_TYPE: list[Event] = [
    StatusEvent(status=Status.FAILED, reason="no [space] left \x1b[31m\n"),
    AttemptEvent(attempt=2, step=40, steps=100, device="cpu", versions={"torch": "2"}),
    PhaseEvent(phase="caching latents", done=1, total=3, detail="ä.png"),
    StepEvent(step=1, loss=0.5, smoothed=0.6, lr=1e-4, grad_norm=None, seconds=0.1, memory=5, epoch=2),
    SampleEvent(step=1, index=0, prompt='"quoted"', seed=42, path="samples/a.jpg"),
    CheckpointEvent(step=1, path="checkpoints/a.safetensors", bytes=9, final=True),
    WarningEvent(message="m", code="c"),
    ErrorEvent(message="m", code="c"),
]


@pytest.mark.parametrize("event", EVERY_TYPE, ids=lambda e: e.TYPE)
def test_every_event_survives_the_round_trip_as_one_line(event: Event) -> None:
    line = encode(event)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    again = decode(line)
    assert again is not None
    assert encode(again) == line


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_lacks_stay_valid_json(loss: float) -> None:
    line = encode(StepEvent(step=1, loss=loss, smoothed=loss, lr=0.1))
    json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    again = decode(line)
    assert isinstance(again, StepEvent)
    assert again.loss == loss or (math.isnan(again.loss) and math.isnan(loss))


def test_unknown_types_and_fields_pass() -> None:
    event = decode(b'{"v":9,"seq":3,"t":1.5,"type":"telepathy","x":1}')
    assert event == UnknownEvent(type="telepathy", fields={"x": 1}, seq=3, t=1.5)
    more = decode(b'{"v":9,"seq":3,"t":1.5,"type":"phase","phase":"x","new":1}')
    assert more == PhaseEvent(phase="x", seq=3, t=1.5)
    assert isinstance(decode(b'{"type":"status","status":"asleep"}'), UnknownEvent)


@pytest.mark.parametrize(
    "line", [b"", b"{", b"[]", b"7", b'{"seq":1}', b"\xff\xfe", b'{"type":7}', b"[" * 9999]
)
def test_what_is_no_event_is_none(line: bytes) -> None:
    assert decode(line) is None


def test_writer_numbers_on_over_restarts_and_heals_half_a_line(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with EventWriter(path) as writer:
        assert writer.write(PhaseEvent(phase="a")).seq == 1
        assert writer.write(PhaseEvent(phase="b")).seq == 2
    with path.open("ab") as file:
        file.write(b'{"v":1,"seq":3,"t":1,"type":"ph')  # killed in mid-write
    with EventWriter(path) as writer:
        assert writer.write(PhaseEvent(phase="c")).seq == 3
    events = EventTail(path).read()
    assert [(e.seq, e.phase) for e in events if isinstance(e, PhaseEvent)] == [(1, "a"), (2, "b"), (3, "c")]


def test_tail_leaves_half_a_line_and_goes_on_from_its_offset(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    tail = EventTail(path)
    assert tail.read() == []
    line = encode(PhaseEvent(phase="a"))
    path.write_bytes(line + line[:10])
    assert len(tail.read()) == 1
    assert tail.offset == len(line)
    assert tail.read() == []
    path.write_bytes(line + line)
    assert len(tail.read()) == 1
    assert len(EventTail(path, offset=len(line)).read()) == 1


def test_tail_starts_again_when_the_file_was_replaced(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    line = encode(PhaseEvent(phase="a"))
    path.write_bytes(line * 3)
    tail = EventTail(path)
    assert len(tail.read()) == 3
    path.write_bytes(line)
    assert len(tail.read()) == 1


@given(cuts=st.lists(st.integers(1, 40), max_size=30))
def test_tail_delivers_the_same_whatever_the_portions(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int]
) -> None:
    path = tmp_path_factory.mktemp("tail") / "e"
    data = b"".join(encode(event) for event in EVERY_TYPE)
    tail, got, at = EventTail(path), [], 0
    for cut in cuts:
        with path.open("ab") as file:
            file.write(data[at : at + cut])
        at += cut
        got += tail.read()
    with path.open("ab") as file:
        file.write(data[at:])
    got += tail.read()
    assert b"".join(encode(event) for event in got) == data


def _step(step: int, loss: float, seconds: float = 0.5) -> StepEvent:
    return StepEvent(step=step, loss=loss, smoothed=loss, lr=0.1, seconds=seconds)


def test_view_sums_up_a_run() -> None:
    view = RunView()
    view.apply([StatusEvent(status=Status.STARTING), AttemptEvent(attempt=1, step=0, steps=10, device="cpu")])
    assert (view.status, view.step, view.steps, view.eta) == (Status.STARTING, 0, 10, None)
    view.apply([PhaseEvent(phase="training", total=10), _step(1, 2.0), _step(2, 1.0)])
    assert (view.phase, view.phase_done, view.loss, view.eta) == ("training", 2, 1.0, 4.0)
    view.apply([StatusEvent(status=Status.FINISHED)])
    assert view.status.ended
    assert view.phase is None


def test_view_skips_what_it_has_seen() -> None:
    view = RunView()
    event = CheckpointEvent(step=1, path="x", seq=4)
    view.apply([event, event])
    assert view.checkpoints == [event]


def test_an_error_is_the_reason_of_the_failure() -> None:
    view = RunView()
    view.apply([ErrorEvent(message="loss is NaN"), StatusEvent(status=Status.FAILED)])
    assert view.reason == "loss is NaN"
    view.apply([StatusEvent(status=Status.QUEUED)])
    assert view.reason is None


def test_steps_repeated_after_a_resume_count_once() -> None:
    rows = step_rows(
        [
            *(_step(n, 1.0) for n in range(1, 6)),
            AttemptEvent(attempt=2, step=3, steps=9),
            _step(4, 2.0),
            _step(5, 2.0),
        ]
    )
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5]
    assert [row["loss"] for row in rows] == [1.0, 1.0, 1.0, 2.0, 2.0]


def test_an_event_after_a_torn_one_stands_on_a_line_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with EventWriter(path) as writer:
        writer.write(PhaseEvent(phase="a"))
        file = writer._file

        class Full:
            name = str(path)

            def write(self, data: bytes) -> int:
                return file.write(data[:5])

        writer._file = Full()  # type: ignore[assignment]
        with pytest.raises(OSError, match="no space"):
            writer.write(PhaseEvent(phase="lost"))
        writer._file = file
        writer.write(PhaseEvent(phase="b"))
    phases = [(e.seq, e.phase) for e in EventTail(path).read() if isinstance(e, PhaseEvent)]
    assert phases == [(1, "a"), (2, "b")]
