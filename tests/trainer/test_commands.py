"""What a run does when it is asked for something while it trains, and why it says that it stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file

from backend.events import (
    AttemptEvent,
    CheckpointEvent,
    CommandEvent,
    Event,
    PhaseEvent,
    SampleEvent,
    Status,
    StatusEvent,
    StepEvent,
)
from backend.runs import commands
from backend.runs.commands import Command
from backend.runs.folder import RunFolder, RunRecord
from backend.runs.stop_request import BUDGET_USED_UP, PREEMPTED, StopRequest, write_stop
from backend.runs.view import RunView
from backend.trainer import inbox, loop, saving
from backend.trainer.control import StopControl
from backend.trainer.errors import TrainingError
from backend.trainer.guards import LossGuard
from backend.trainer.inbox import DONE_FILE, Inbox
from backend.trainer.report import Reporter
from tests.trainer.conftest import MakeRun, Run
from tests.trainer.test_resume import assert_same

SAMPLED: dict[str, Any] = {
    "train": {"disable_sampling": False, "skip_first_sample": True},
    "sample": {
        "prompts": ["zork", "a dog"],
        "width": 64,
        "height": 64,
        "sample_steps": 1,
        "sample_every": 100,
    },
}


@pytest.fixture(autouse=True)
def looks_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "INTERVAL", 0.0)


@pytest.fixture
def when(monkeypatch: pytest.MonkeyPatch) -> Callable[[Run, type[Event], int, Callable[[], Any]], None]:
    """Does something when a run has said its n-th event of a kind."""

    def arrange(run: Run, kind: type[Event], count: int, act: Callable[[], Any]) -> None:
        emit = Reporter.emit

        def emit_then_act(reporter: Reporter, event: Event) -> None:
            nonlocal count
            emit(reporter, event)
            if isinstance(event, kind):
                count -= 1
                if count == 0:
                    act()

        monkeypatch.setattr(Reporter, "emit", emit_then_act)

    return arrange


When = Callable[[Run, type[Event], int, Callable[[], Any]], None]


def send(run: Run, kind: Any, steps: int | None = None, **fields: Any) -> Command:
    command = Command(kind=kind, steps=steps, **fields)
    commands.send(run.folder.control, command)
    return command


def answers(run: Run) -> list[tuple[str, bool, str]]:
    return [(event.kind, event.ok, event.detail) for event in run.events(CommandEvent)]


def last_status(run: Run) -> tuple[Status, str | None]:
    event = run.events(StatusEvent)[-1]
    return event.status, event.reason


def steps_of(run: Run) -> list[int]:
    return [event.step for event in run.events(StepEvent)]


# -- save and sample ---------------------------------------------------------------------------


def test_save_now(make_run: MakeRun, when: When) -> None:
    run = make_run(train={"steps": 5})
    when(run, StepEvent, 2, lambda: send(run, "save", id="please"))
    assert run.train() == 0
    assert [(e.step, e.final) for e in run.events(CheckpointEvent)] == [(2, False), (5, True)]
    assert (run.folder.checkpoints / "tiny_000000002.safetensors").exists()
    assert answers(run) == [("save", True, "step 2 is saved")]
    assert run.events(CommandEvent)[0].id == "please"
    assert not list(run.folder.control.iterdir())
    quiet = make_run("quiet", train={"steps": 5})
    assert quiet.train() == 0
    assert_same(quiet.final, run.final)


def test_two_saves_at_one_step_are_one(make_run: MakeRun, when: When) -> None:
    run = make_run()
    when(run, StepEvent, 1, lambda: (send(run, "save"), send(run, "save")))
    assert run.train() == 0
    assert answers(run) == [("save", True, "step 1 is saved")] * 2
    assert [e.step for e in run.events(CheckpointEvent)] == [1, 3]


def test_a_save_before_the_first_step_waits_for_it(make_run: MakeRun) -> None:
    run = make_run()
    send(run, "save")
    assert run.train() == 0
    assert answers(run) == [("save", True, "step 1 is saved")]


def test_a_save_at_the_last_step_is_the_runs_own(make_run: MakeRun, when: When) -> None:
    run = make_run()
    when(run, StepEvent, 3, lambda: send(run, "save"))
    assert run.train() == 0
    assert answers(run) == [("save", True, "step 3 is saved")]
    assert [(e.step, e.final) for e in run.events(CheckpointEvent)] == [(3, True)]


def test_a_save_waits_while_the_weights_may_be_ruined(
    make_run: MakeRun, when: When, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(train={"steps": 5})
    monkeypatch.setattr(LossGuard, "calm", property(lambda guard: len(steps_of(run)) != 2))
    when(run, StepEvent, 2, lambda: send(run, "save"))
    assert run.train() == 0
    assert answers(run) == [("save", True, "step 3 is saved")]


def test_a_save_on_a_full_disk_is_refused_and_training_goes_on(
    make_run: MakeRun, when: When, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run()
    write = saving.write_lora

    def full(path: Path, *rest: Any) -> int:
        if "0002" in path.name:
            raise TrainingError("the disk is full: make room", "disk_full")
        return write(path, *rest)

    monkeypatch.setattr(saving, "write_lora", full)
    when(run, StepEvent, 2, lambda: send(run, "save"))
    assert run.train() == 0
    assert answers(run) == [("save", False, "the disk is full: make room")]
    assert steps_of(run) == [1, 2, 3]


def test_sample_now(make_run: MakeRun, when: When) -> None:
    run = make_run(**SAMPLED | {"sample": SAMPLED["sample"] | {"sample_start_step": 50}})
    when(run, StepEvent, 1, lambda: (send(run, "sample"), send(run, "sample")))
    assert run.train() == 0
    assert [(e.step, e.index) for e in run.events(SampleEvent)] == [(1, 0), (1, 1)]
    assert answers(run) == [
        ("sample", True, "the samples of step 1 are drawn"),
        ("sample", True, "the samples of step 1 are there already"),
    ]
    phases = [event.phase for event in run.events(PhaseEvent)]
    assert "training" in phases[phases.index("sampling") :]
    quiet = make_run("quiet")
    assert quiet.train() == 0
    assert_same(quiet.final, run.final)


def test_a_run_without_prompts_cannot_sample(make_run: MakeRun, when: When) -> None:
    run = make_run()
    when(run, StepEvent, 1, lambda: send(run, "sample"))
    assert run.train() == 0
    ((kind, ok, detail),) = answers(run)
    assert (kind, ok) == ("sample", False)
    assert "nothing to draw" in detail


def test_a_command_that_comes_while_sampling_waits_for_the_end_of_it(make_run: MakeRun, when: When) -> None:
    run = make_run(**SAMPLED | {"train": {"disable_sampling": False}})
    when(run, SampleEvent, 1, lambda: (send(run, "save"), send(run, "extend", 4)))
    assert run.train() == 0
    told = [e for e in run.events() if isinstance(e, SampleEvent | CommandEvent | StepEvent)]
    kinds = [type(event).__name__ for event in told[:5]]
    assert kinds == ["SampleEvent", "SampleEvent", "CommandEvent", "StepEvent", "CommandEvent"]
    assert answers(run) == [("extend", True, "4 steps instead of 3"), ("save", True, "step 1 is saved")]


def test_a_stop_in_the_middle_of_wanted_samples(make_run: MakeRun, when: When) -> None:
    run = make_run(**SAMPLED)
    when(run, StepEvent, 1, lambda: send(run, "sample"))
    when(run, SampleEvent, 1, lambda: send(run, "stop"))
    assert run.train() == 0
    assert [(kind, ok) for kind, ok, _ in answers(run)] == [("stop", True), ("sample", False)]
    assert len(run.events(SampleEvent)) == 1
    assert last_status(run)[0] is Status.STOPPED


# -- extend ------------------------------------------------------------------------------------


def test_an_extended_run_with_a_constant_rate_equals_one_launched_so(make_run: MakeRun, when: When) -> None:
    straight = make_run("straight", train={"steps": 6})
    assert straight.train() == 0
    run = make_run(train={"steps": 3})
    when(run, StepEvent, 2, lambda: send(run, "extend", 6))
    assert run.train() == 0
    assert_same(straight.final, run.final)
    assert answers(run) == [("extend", True, "6 steps instead of 3")]
    assert run.events(CommandEvent)[0].steps == 6
    view = RunView()
    view.apply(run.events())
    assert (view.step, view.steps) == (6, 6)
    numbers = [(e.step, e.loss, e.lr, e.grad_norm) for e in straight.events(StepEvent)]
    assert numbers == [(e.step, e.loss, e.lr, e.grad_norm) for e in run.events(StepEvent)]


def test_an_extended_run_equals_one_resumed_with_more_steps(
    make_run: MakeRun, when: When, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"train": {"steps": 4, "lr_scheduler": "cosine", "ema_config": {"use_ema": True}}}
    resumed = make_run("resumed", **changes)
    assert resumed.train_until(2, monkeypatch) == 0
    resumed.configure(train={"steps": 7})
    assert resumed.train() == 0
    extended = make_run("extended", **changes)
    when(extended, StepEvent, 2, lambda: send(extended, "extend", 7))
    assert extended.train() == 0
    assert [e.lr for e in extended.events(StepEvent)] == [e.lr for e in resumed.events(StepEvent)]
    assert_same(resumed.final, extended.final)


def test_captions_that_vary_get_the_texts_of_the_longer_run(
    make_run: MakeRun, when: When, pictures: Path
) -> None:
    data = [
        {"folder_path": str(pictures), "resolution": [64], "shuffle_tokens": True, "token_dropout_rate": 0.3}
    ]
    straight = make_run("straight", datasets=data, train={"steps": 16})
    assert straight.train() == 0
    run = make_run(datasets=data, train={"steps": 4})
    when(run, StepEvent, 3, lambda: send(run, "extend", 16))
    assert run.train() == 0
    assert steps_of(run) == list(range(1, 17))
    assert_same(straight.final, run.final)
    assert last_status(run)[0] is Status.FINISHED


def test_the_folder_keeps_the_new_total(
    make_run: MakeRun, when: When, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TINY_TRIGGER", "zork")
    run = make_run(train={"steps": 3})
    text = run.folder.config.read_text().replace("trigger_word: zork", "trigger_word: ${TINY_TRIGGER}")
    run.folder.config.write_text(f"# Run config, resolved from fox.yaml\n{text}")
    run.folder.create()
    record = RunRecord(
        id="abc", name="tiny", backend="local", steps=3, path=run.folder.path, handle={"pid": 1}
    )
    run.folder.write_record(record)
    when(run, StepEvent, 1, lambda: (send(run, "extend", 9), send(run, "stop")))
    assert run.train() == 0
    assert run.folder.config.read_text().startswith("# Run config, resolved from fox.yaml\n")
    process = yaml.safe_load(run.folder.config.read_text())["config"]["process"][0]
    assert process["train"]["steps"] == 9
    assert process["trigger_word"] == "${TINY_TRIGGER}"
    kept = run.folder.read_record()
    assert kept is not None
    assert (kept.steps, kept.handle) == (9, {"pid": 1})
    assert steps_of(run) == [1]
    assert run.train() == 0
    assert steps_of(run) == list(range(1, 10))
    assert [e.steps for e in run.events(AttemptEvent)] == [3, 9]


@pytest.mark.parametrize("steps", [1, 2])
def test_a_total_that_is_done_already_is_refused(make_run: MakeRun, when: When, steps: int) -> None:
    run = make_run()
    when(run, StepEvent, 2, lambda: send(run, "extend", steps))
    assert run.train() == 0
    ((kind, ok, detail),) = answers(run)
    assert (kind, ok) == ("extend", False)
    assert f"has done 2 steps already; its new total must be larger than that, not {steps}" in detail
    assert steps_of(run) == [1, 2, 3]


def test_a_run_can_be_made_shorter(make_run: MakeRun, when: When) -> None:
    run = make_run(train={"steps": 10})
    when(run, StepEvent, 2, lambda: send(run, "extend", 4))
    assert run.train() == 0
    assert steps_of(run) == [1, 2, 3, 4]
    assert last_status(run)[0] is Status.FINISHED


def test_a_run_is_extended_while_its_end_is_saved(make_run: MakeRun, when: When) -> None:
    longer = make_run("longer", train={"steps": 5})
    assert longer.train() == 0
    run = make_run()
    when(run, CheckpointEvent, 1, lambda: send(run, "extend", 5))
    assert run.train() == 0
    assert steps_of(run) == [1, 2, 3, 4, 5]
    assert [status.status for status in run.events(StatusEvent)].count(Status.FINISHED) == 1
    assert_same(longer.final, run.final)


def test_a_finished_run_is_extended_before_it_is_prepared(make_run: MakeRun) -> None:
    run = make_run()
    assert run.train() == 0
    send(run, "extend", 5)
    assert run.train() == 0
    assert steps_of(run) == [1, 2, 3, 4, 5]
    assert [e.steps for e in run.events(AttemptEvent)] == [3, 5]


# -- once, and never lost ----------------------------------------------------------------------


def test_a_command_is_carried_out_once_however_often_it_is_delivered(make_run: MakeRun, when: When) -> None:
    run = make_run(train={"steps": 6})
    command = Command(kind="stop", id="once")
    when(run, StepEvent, 2, lambda: commands.send(run.folder.control, command))
    assert run.train() == 0
    assert last_status(run) == (Status.STOPPED, "stopped after step 2; resume goes on from there")
    commands.send(run.folder.control, command)  # whoever carries it home again and again
    assert run.train() == 0
    assert last_status(run)[0] is Status.FINISHED
    assert answers(run) == [("stop", True, "saving, then stopping")]
    assert json.loads((run.folder.state / DONE_FILE).read_text()) == ["once"]
    assert not list(run.folder.control.iterdir())


def test_what_nobody_knows_is_refused(make_run: MakeRun) -> None:
    run = make_run()
    run.folder.control.mkdir(parents=True)
    text = json.dumps({"v": 3, "id": "new", "kind": "rewind", "at": 1})
    (run.folder.control / "0000000000001-new.json").write_text(text)
    (run.folder.control / "0000000000002-bad.json").write_text("{")
    assert run.train() == 0
    (new, bad) = run.events(CommandEvent)
    assert (new.id, new.kind, new.ok) == ("new", "rewind", False)
    assert "knows no command 'rewind'; it knows stop, save, sample, extend" in new.detail
    assert (bad.id, bad.ok) == ("bad", False)


def test_what_waits_is_refused_when_the_run_ends(make_run: MakeRun, when: When) -> None:
    run = make_run(train={"steps": 6})
    when(run, StepEvent, 2, lambda: (run.folder.stop_file.touch(), send(run, "sample"), send(run, "save")))
    assert run.train() == 0
    assert [(kind, ok) for kind, ok, _ in answers(run)] == [("save", True), ("sample", False)]
    (refused,) = [e for e in run.events(CommandEvent) if not e.ok]
    assert refused.detail == "the run was stopped"
    assert run.events()[-1].seq > refused.seq  # the status is the last word


def test_what_waits_survives_a_preemption(make_run: MakeRun, when: When) -> None:
    run = make_run(**SAMPLED)

    def preempt() -> None:
        send(run, "sample")
        write_stop(run.folder.stop_file, StopRequest("preempted"))

    when(run, StepEvent, 1, preempt)
    assert run.train() == 0
    assert last_status(run) == (Status.INTERRUPTED, PREEMPTED)
    assert not answers(run)
    assert run.train() == 0
    assert answers(run) == [("sample", True, "the samples of step 1 are drawn")]
    assert steps_of(run) == [1, 2, 3]


def test_a_failed_run_answers_what_waits(
    make_run: MakeRun, when: When, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run()
    send(run, "save")
    monkeypatch.setattr(loop.TrainingLoop, "_update", lambda *_: 1 / 0)
    assert run.train() == 1
    assert answers(run) == [("save", False, "the run failed")]


def test_the_memory_of_done_commands_is_bounded(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.create()
    box = Inbox(folder, Reporter(None))
    for index in range(1100):
        box._remember(f"c{index}")
    known = json.loads((folder.state / DONE_FILE).read_text())
    assert (len(known), known[0], known[-1]) == (1000, "c100", "c1099")


def test_a_look_costs_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "INTERVAL", 0.25)
    folder = RunFolder(tmp_path)
    folder.create()
    stop = StopControl(folder.stop_file, lambda: None, inbox=Inbox(folder, Reporter(None)))
    count, began = 2000, time.perf_counter()
    for _ in range(count):
        stop.requested()
    assert (time.perf_counter() - began) / count < 1e-3


# -- why a run stops -----------------------------------------------------------------------------


def stop_with(run: Run, when: When, request: StopRequest) -> None:
    when(run, StepEvent, 1, lambda: write_stop(run.folder.stop_file, request))
    assert run.train() == 0


def test_a_used_up_budget_says_so(make_run: MakeRun, when: When) -> None:
    run = make_run()
    stop_with(run, when, StopRequest("budget"))
    assert last_status(run) == (Status.STOPPED, f"{BUDGET_USED_UP} (stopped after step 1)")
    stopping = [e.reason for e in run.events(StatusEvent) if e.status is Status.STOPPING]
    assert stopping == [f"{BUDGET_USED_UP}: saving, then stopping"]
    assert not run.folder.stop_file.exists()


def test_a_cancelled_run_says_who(make_run: MakeRun, when: When) -> None:
    run = make_run()
    stop_with(run, when, StopRequest("cancelled", "cancelled on modal.com"))
    assert last_status(run) == (Status.STOPPED, "cancelled on modal.com (stopped after step 1)")


def test_a_person_counts_more_than_a_preemption(make_run: MakeRun, when: When) -> None:
    run = make_run()

    def both() -> None:
        write_stop(run.folder.stop_file, StopRequest("preempted"))

    when(run, StepEvent, 1, both)
    when(run, CheckpointEvent, 1, lambda: send(run, "stop"))
    assert run.train() == 0
    assert last_status(run)[0] is Status.STOPPED


def test_the_deadline_stops_the_run_and_saves(
    make_run: MakeRun, when: When, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run()
    monkeypatch.setenv("FLUXLORA_DEADLINE", str(time.time() - 5))
    assert run.train() == 0
    assert last_status(run) == (Status.STOPPED, f"{BUDGET_USED_UP} (stopped before the first step)")
    monkeypatch.setenv("FLUXLORA_DEADLINE", "99999999999")
    now = time.time

    def later() -> None:
        monkeypatch.setattr(time, "time", lambda: now() + 99999999999)

    when(run, StepEvent, 2, later)
    assert run.train() == 0
    monkeypatch.setattr(time, "time", now)
    assert last_status(run) == (Status.STOPPED, f"{BUDGET_USED_UP} (stopped after step 2)")
    assert run.events(CheckpointEvent)[-1].step == 2


@pytest.mark.parametrize(("name", "value"), [("FLUXLORA_DEADLINE", "tomorrow"), ("FLUXLORA_FIRST_SEQ", "0")])
def test_a_wrong_variable_is_told_in_a_sentence(
    make_run: MakeRun,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    value: str,
) -> None:
    run = make_run()
    monkeypatch.setenv(name, value)
    assert run.train() == 2
    assert f"{name} is {value!r}; it must be" in capsys.readouterr().err


def test_events_begin_where_the_environment_says(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run()
    monkeypatch.setenv("FLUXLORA_FIRST_SEQ", "1000001")
    assert run.train() == 0
    first = [event.seq for event in run.events()]
    assert first == list(range(1_000_001, 1_000_001 + len(first)))
    run.configure(train={"steps": 4})
    monkeypatch.setenv("FLUXLORA_FIRST_SEQ", "2000001")
    assert run.train() == 0
    assert [event.seq for event in run.events()][len(first)] == 2_000_001
    assert [event.attempt for event in run.events(AttemptEvent)] == [1, 2]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM to catch")
def test_a_signal_after_the_stop_file_stops_for_the_files_reason(make_run: MakeRun) -> None:
    run = make_run(train={"steps": 100_000})
    process = subprocess.Popen(
        [sys.executable, "-m", "backend.trainer", str(run.folder.path)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not run.events(StepEvent):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    extend = send(run, "extend", 100_500)
    while not run.events(CommandEvent):  # the real interval, in a real process
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert run.events(CommandEvent)[0].id == extend.id
    write_stop(run.folder.stop_file, StopRequest("preempted"))
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert last_status(run) == (Status.INTERRUPTED, PREEMPTED)
    assert run.events(CheckpointEvent)[-1].step == steps_of(run)[-1]
    assert load_file(run.folder.path / run.events(CheckpointEvent)[-1].path)
