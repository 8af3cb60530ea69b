"""A container's work on a run, with a scripted process in the trainer's place and a fake volume."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from backend.launchers.modal import wire
from backend.launchers.modal.container.sdk import VolumeError, VolumeFullError
from backend.runs.stream import EventWriter
from tests.backend.modal_container.conftest import World, wait_for

STRIDE = wire.SEQ_STRIDE


def test_a_run_is_trained_printed_and_committed(world: World) -> None:
    world.script(["steps", 5], ["sample"], ["checkpoint"], ["steps", 5], ["finish"])
    result = world.boot()
    assert result == {
        "ok": True,
        "status": "finished",
        "reason": None,
        "step": 10,
        "boot": 1,
        "error": None,
        "samplers": [],
    }
    raw = world.folder.events.read_text(encoding="utf-8").splitlines()
    assert world.events_printed() == raw  # exactly as they stand in the file, in order
    assert [event["seq"] for event in world.events()] == list(range(STRIDE + 1, STRIDE + 1 + len(raw)))
    assert world.log_printed(1) == world.log_kept(1)
    assert [line for line in world.log_kept(1) if line.startswith("step")] == [
        f"step {n}" for n in range(1, 11)
    ]
    committed = world.volume.committed
    assert (committed / "fox/events.jsonl").read_bytes() == world.folder.events.read_bytes()
    assert (committed / "fox/log.txt").read_bytes() == world.folder.log.read_bytes()
    files = world.manifest(committed)
    assert files.keys() == {
        "checkpoints/fox.safetensors",
        "checkpoints/fox_000000005.safetensors",
        "samples/5.png",
        "config.yaml",
        "log.txt",
        "events.jsonl",
    }
    for path, entry in files.items():
        data = (committed / "fox" / path).read_bytes()
        assert entry["bytes"] == len(data), path
        assert entry["sha256"] == hashlib.sha256(data).hexdigest(), path
    status = world.status(committed)
    assert (status["ok"], status["status"], status["step"], status["steps"]) == (True, "finished", 10, 100)
    assert status["boot"] == 1
    assert status["spent_seconds"] > 0
    boot = world.boots()[0]
    assert (boot["boot"], boot["log_offset"], boot["end"]) == (1, 0, "finished")


def test_the_container_is_entered_and_committed_before_anything_is_printed(world: World) -> None:
    world.script(["steps", 1], ["finish"])
    world.volume.trouble = VolumeError("no answer")
    result = world.boot_beside()
    wait_for(lambda: world.volume.tries >= 2, "a second try")
    assert world.printed.read_bytes() == b""
    assert not world.folder.events.exists()
    assert world.boots()[0]["boot"] == 1
    world.volume.trouble = None
    assert result()["status"] == "finished"
    assert world.log_printed(1)


def test_a_container_that_cannot_enter_itself_does_not_train(world: World) -> None:
    world.script(["finish"])
    world.settings["boot_patience"] = 0.5
    world.volume.trouble = VolumeError("connection reset")
    with pytest.raises(RuntimeError, match=r"container 1 could not enter itself.*connection reset"):
        world.boot()
    assert world.printed.read_bytes() == b""
    assert not world.folder.events.exists()


def test_the_trainer_gets_what_it_needs_and_the_shipped_packages(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    names = ["FLUXLORA_VOLUME", "FLUXLORA_HOME", "FLUXLORA_FIRST_SEQ", "FLUXLORA_DEADLINE", "HF_HUB_CACHE"]
    names += ["FLUXLORA_MODEL_FOLDER", "FLUXLORA_ASYNC_SAMPLING", "PYTHONUNBUFFERED", "TQDM_DISABLE"]
    world.script(["environment", *names], ["finish"])
    stand_in = tmp_path / "machine"
    (stand_in / "mnt/base").mkdir(parents=True)
    monkeypatch.setenv("MODAL_EMU_ROOT", str(stand_in))
    monkeypatch.setenv("PYTHONPATH", "/somewhere/else")
    world.launch(seconds=1000, model_folder="flux")
    before = time.time()
    world.boot(base_volume_id="vo-2", sample_function_id="fu-2")
    got = json.loads((world.folder.state / "environment.json").read_text())
    assert before + 1000 <= float(got.pop("FLUXLORA_DEADLINE")) <= time.time() + 1000
    assert got == {
        "FLUXLORA_VOLUME": str(world.root),
        "FLUXLORA_HOME": str(world.root / ".fluxlora"),
        "FLUXLORA_FIRST_SEQ": str(STRIDE + 1),
        "HF_HUB_CACHE": str(stand_in / "mnt/base/hub"),
        "FLUXLORA_MODEL_FOLDER": str(stand_in / "mnt/base/flux"),
        "FLUXLORA_ASYNC_SAMPLING": "1",
        "PYTHONUNBUFFERED": "1",
        "TQDM_DISABLE": "1",
    }
    cwd, argv, *path = json.loads((world.folder.state / "path.json").read_text())
    assert argv[1:] == [str(world.folder.path)]
    assert not cwd.startswith(str(world.root))  # an open folder would keep the volume from reloading
    assert path[:2] == [str(Path(__file__).parents[3]), "/somewhere/else"]


def test_checkpoints_are_committed_at_once_and_the_rest_every_few_seconds(world: World) -> None:
    world.settings["commit_interval"] = 30
    world.script(["steps", 3], ["checkpoint"], ["wait_for", "go"], ["finish"])
    result = world.boot_beside()
    name = "checkpoints/fox_000000003.safetensors"
    committed = world.volume.committed
    wait_for(lambda: (committed / "fox" / name).exists(), "the checkpoint's commit", 20)
    wait_for(lambda: name in world.manifest(committed), "the manifest's commit", 20)
    assert "log.txt" not in world.manifest(committed)  # it grows: it is not complete
    assert world.status(committed)["status"] == "training"
    assert world.status(committed)["ok"] is None
    (world.folder.state / "go").touch()
    assert result()["ok"]


def test_unimportant_changes_are_committed_within_the_interval(world: World) -> None:
    world.settings["commit_interval"] = 0.3
    world.script(["steps", 3], ["wait_for", "go"], ["steps", 4], ["wait_for", "go on"], ["finish"])
    result = world.boot_beside()
    log = world.volume.committed / "fox/log.txt"
    wait_for(lambda: log.exists() and "step 3" in log.read_text(), "a commit")
    (world.folder.state / "go").touch()
    wait_for(lambda: "step 7" in log.read_text(), "another commit")
    (world.folder.state / "go on").touch()
    assert result()["ok"]


def test_failing_commits_never_hurt_training_and_are_told(world: World) -> None:
    world.script(["steps", 3], ["wait_for", "go"], ["steps", 3], ["checkpoint"], ["finish"])
    result = world.boot_beside()
    wait_for(lambda: world.reached(3), "step 3")
    wait_for(lambda: world.volume.commits, "the first commit")
    world.volume.trouble = VolumeError("502 bad gateway")
    (world.folder.state / "go").touch()
    wait_for(lambda: any("502 bad gateway" in line for line in world.lines()), "the warning")
    world.volume.trouble = None
    assert result()["ok"]
    said = [line for line in world.log_kept(1) if "could not be committed" in line]
    assert len(said) == 1
    assert "fox.safetensors" in " ".join(world.manifest(world.volume.committed))


def test_a_full_volume_ends_the_run_with_a_sentence_and_keeps_what_is_committed(world: World) -> None:
    world.script(["steps", 3], ["checkpoint"], ["wait_for", "go"], ["steps", 3], ["checkpoint"], ["wait"])
    result = world.boot_beside()
    first = world.volume.committed / "fox/checkpoints/fox_000000003.safetensors"
    wait_for(first.exists, "the first checkpoint's commit")
    world.volume.trouble = VolumeFullError("No space left on volume")
    (world.folder.state / "go").touch()
    answer = result()
    assert (answer["ok"], answer["status"], answer["error"]) == (False, "failed", "volume_full")
    assert "flux-lora-models is full" in answer["reason"]
    assert first.read_bytes() == b"lora at 3"
    last = json.loads(world.events_printed()[-1])
    assert (last["type"], last["status"], last["reason"]) == ("status", "failed", answer["reason"])


def test_a_volume_that_is_full_when_the_container_starts(world: World) -> None:
    world.script(["finish"])
    world.volume.trouble = VolumeFullError("No space left on volume")
    answer = world.boot()
    assert answer["error"] == "volume_full"
    assert not any(event["type"] == "attempt" for event in world.events())


def test_a_volume_that_becomes_full_at_the_very_end_is_no_finished_run(world: World) -> None:
    world.settings["commit_interval"] = 100
    world.script(["wait_for", "go"], ["finish"])
    result = world.boot_beside()
    wait_for(lambda: world.folder.events.exists(), "the first event")
    wait_for(lambda: len(world.volume.commits) > 1, "the first commits")
    world.volume.trouble = VolumeFullError("No space left on volume")
    (world.folder.state / "go").touch()
    answer = result()
    assert (answer["ok"], answer["error"]) == (False, "volume_full")
    assert json.loads(world.events_printed()[-1])["status"] == "failed"


# -- how the trainer can end ----------------------------------------------------------------------


def test_a_failure_that_the_trainer_explains_is_returned(world: World) -> None:
    world.script(["steps", 2], ["fail", "the loss is not finite", "nan_loss"])
    answer = world.boot()
    assert (answer["ok"], answer["status"], answer["reason"], answer["error"]) == (
        False,
        "failed",
        "the loss is not finite",
        "nan_loss",
    )
    assert world.status()["ok"] is False
    assert world.status()["error"] == "nan_loss"


def test_an_exit_without_a_word_is_a_failure_with_a_sentence(world: World) -> None:
    world.script(["steps", 2], ["exit", 3])
    answer = world.boot()
    assert answer["error"] == "trainer_crashed"
    assert "exit code 3" in answer["reason"]
    assert [event["type"] for event in world.events()][-2:] == ["error", "status"]
    assert world.events_printed() == world.folder.events.read_text().splitlines()


def test_a_trainer_killed_for_its_memory_fails_with_a_plain_sentence(world: World) -> None:
    world.script(["steps", 2], ["checkpoint"], ["signal", "SIGKILL"])
    answer = world.boot()
    assert (answer["ok"], answer["error"]) == (False, "container_out_of_memory")
    assert "ran out of main memory (" in answer["reason"]
    assert "GiB)" in answer["reason"]
    assert "resume goes on from step 2" in answer["reason"]
    assert world.status()["status"] == "failed"
    assert [event["seq"] for event in world.events()] == list(
        range(STRIDE + 1, STRIDE + 1 + len(world.events()))
    )


def test_other_signals_ask_for_a_new_container_which_goes_on(world: World) -> None:
    world.script(["steps", 2], ["checkpoint"], ["steps", 1], ["signal", "SIGSEGV"], boot=1)
    world.script(["steps", 3], ["finish"], boot=2)
    with pytest.raises(RuntimeError, match="SIGSEGV; Modal starts another container"):
        world.boot()
    assert world.boots()[0]["end"] == "crashed"
    answer = world.boot()
    assert (answer["status"], answer["boot"], answer["step"]) == ("finished", 2, 5)
    second = [event["seq"] for event in world.events() if event["seq"] > 2 * STRIDE]
    assert second == list(range(2 * STRIDE + 1, 2 * STRIDE + 1 + len(second)))
    for boot in (1, 2):
        assert world.log_printed(boot) == world.log_kept(boot)


def test_the_last_allowed_container_does_not_ask_for_another(world: World) -> None:
    world.launch(max_boots=2)
    world.script(["steps", 2], ["checkpoint"], ["signal", "SIGBUS"])
    with pytest.raises(RuntimeError):
        world.boot()
    answer = world.boot()
    assert (answer["ok"], answer["error"], answer["boot"]) == (False, "trainer_crashed", 2)
    assert "SIGBUS" in answer["reason"]
    assert "Fatal Python error" in world.folder.log.read_text()  # the log's end tells where


def test_a_process_left_behind_does_not_hold_up_the_end(world: World) -> None:
    world.script(["leave_a_child"], ["finish"])
    began = time.monotonic()
    assert world.boot()["status"] == "finished"
    assert time.monotonic() - began < 60


# -- boots ------------------------------------------------------------------------------------------


def test_an_input_delivered_twice_is_not_trained_twice(world: World) -> None:
    world.script(["steps", 2], ["finish"])
    first = world.boot()
    printed = world.printed.read_bytes()
    assert world.boot() == first
    assert world.printed.read_bytes() == printed
    assert len(world.boots()) == 1


def test_a_resume_goes_on_once(world: World) -> None:
    world.script(["steps", 2], ["fail", "no", "no"], boot=1)
    world.script(["steps", 3], ["finish"], boot=2)
    assert world.boot()["status"] == "failed"
    world.launch(launch=2, resume=True)
    assert world.boot()["status"] == "finished"
    assert world.boot()["boot"] == 2  # delivered twice
    assert [boot["launch"] for boot in world.boots()] == [1, 2]


def test_two_containers_that_vanish_at_the_same_step_are_enough(world: World) -> None:
    """A container killed as a whole says nothing; a third would only cost money."""
    world.script(["finish"])
    for boot in (1, 2):
        with EventWriter(world.folder.events, first=boot * STRIDE + 1) as writer:
            from backend.events import Status, StatusEvent, StepEvent

            writer.write(StatusEvent(status=Status.TRAINING))
            for step in (1, 2, 3):
                writer.write(StepEvent(step=step, loss=1, smoothed=1, lr=1))
    boots = [{"boot": b, "task": "", "started": time.time(), "log_offset": 0, "launch": 1} for b in (1, 2)]
    (world.folder.state / "boots.json").write_text(json.dumps({"boots": boots}))
    answer = world.boot()
    assert (answer["ok"], answer["error"], answer["boot"]) == (False, "stuck", 3)
    assert "two containers in a row ended without a word at step 3" in answer["reason"]
    assert world.volume.commits


def test_vanishing_later_each_time_is_progress(world: World) -> None:
    world.script(["finish"])
    for boot in (1, 2):
        with EventWriter(world.folder.events, first=boot * STRIDE + 1) as writer:
            from backend.events import StepEvent

            writer.write(StepEvent(step=boot * 10, loss=1, smoothed=1, lr=1))
    boots = [{"boot": b, "task": "", "started": time.time(), "log_offset": 0, "launch": 1} for b in (1, 2)]
    (world.folder.state / "boots.json").write_text(json.dumps({"boots": boots}))
    assert world.boot()["status"] == "finished"


def test_too_many_containers(world: World) -> None:
    world.launch(max_boots=2)
    world.script(["finish"])
    boots = [
        {"boot": b, "task": "", "started": time.time(), "log_offset": 0, "launch": 1, "end": "preempted"}
        for b in (1, 2)
    ]
    (world.folder.state / "boots.json").write_text(json.dumps({"boots": boots}))
    answer = world.boot()
    assert (answer["ok"], answer["error"]) == (False, "too_many_containers")


def test_a_lost_boots_file_does_not_make_numbers_come_twice(world: World) -> None:
    world.script(["steps", 2], ["checkpoint"], ["signal", "SIGSEGV"], boot=1)
    world.script(["finish"], boot=2)
    with pytest.raises(RuntimeError):
        world.boot()
    (world.folder.state / "boots.json").write_text("{half")
    assert world.boot()["boot"] == 2


def test_a_torn_last_log_line_is_healed_before_the_next_container_begins(world: World) -> None:
    world.folder.log.write_bytes(b"whole\nhalf of a li")
    world.script(["steps", 1], ["finish"])
    world.boot()
    assert world.boots()[0]["log_offset"] == len(b"whole\nhalf of a li\n")
    assert world.log_printed(1) == world.log_kept(1)


def test_what_the_last_container_was_told_does_not_stop_the_next(world: World) -> None:
    world.folder.stop_file.write_text('{"why": "preempted"}')
    world.script(["steps", 2], ["finish"])
    assert world.boot()["status"] == "finished"


# -- stopping -----------------------------------------------------------------------------------------


def test_the_deadline_stops_the_run_with_its_budget_in_the_sentence(world: World) -> None:
    world.launch(seconds=2.0, budget=5)
    world.script(["steps", 2], ["wait"])
    answer = world.boot()
    assert (answer["ok"], answer["status"]) == (True, "stopped")
    assert answer["reason"] == "the run's budget of $5.00 is used up; resume it with a larger one"
    assert world.events("checkpoint")[-1]["step"] == 2


def test_the_deadline_counts_from_the_launchs_first_container(world: World) -> None:
    world.launch(seconds=100.0, budget=5)
    boots = [
        {
            "boot": 1,
            "task": "",
            "started": time.time() - 200,
            "log_offset": 0,
            "launch": 1,
            "end": "preempted",
        }
    ]
    (world.folder.state / "boots.json").write_text(json.dumps({"boots": boots}))
    world.script(["finish"])
    answer = world.boot()
    assert (answer["ok"], answer["status"]) == (True, "stopped")
    assert "$5.00" in answer["reason"]
    assert not world.events("attempt")
    world.launch(seconds=100.0, launch=2, resume=True)  # a resume has a deadline of its own
    assert world.boot()["status"] == "finished"


def test_a_trainer_that_does_not_react_is_ended(world: World) -> None:
    world.launch(seconds=3.0)
    world.settings["grace"] = {"budget": 1.0, "preempted": 1.0, "cancelled": 1.0, "user": 1.0}
    world.script(["steps", 2], ["checkpoint"], ["deaf"])
    answer = world.boot()
    assert (answer["ok"], answer["status"]) == (True, "stopped")
    assert (
        "did not react in time and was ended without saving; resume goes on from step 2" in answer["reason"]
    )


def test_commands_are_fetched_from_the_volume(world: World) -> None:
    name = "0000000000001-abc.json"
    world.script(["wait_for", f"control/{name}"], ["finish"])
    result = world.boot_beside()
    wait_for(lambda: world.volume.commits, "the first commit")
    remote = world.volume.committed / "fox/state/control"
    remote.mkdir(parents=True, exist_ok=True)
    (remote / name).write_text('{"v": 1, "id": "abc", "kind": "save", "steps": null, "at": 1}')
    assert result()["status"] == "finished"
    assert (world.folder.control / name).read_bytes() == (remote / name).read_bytes()


def test_sampling_requests_are_handed_on_once_they_are_committed(world: World) -> None:
    seen: list[bool] = []
    spawn = world._spawn

    def spawning(function: str, argument: dict[str, object]) -> str:
        seen.append((world.volume.committed / f"fox/state/sampling/{argument['step']}.json").exists())
        return spawn(function, argument)

    world._spawn = spawning  # type: ignore[method-assign]
    world.script(["steps", 2], ["request_samples"], ["steps", 2], ["request_samples"], ["finish"])
    answer = world.boot(volume_id="vo-1", sample_function_id="fu-9")
    assert answer["samplers"] == ["fc-1", "fc-2"]
    assert seen == [True, True]
    assert [(s["function"], s["step"], s["folder"]) for s in world.spawned] == [
        ("fu-9", 2, "fox"),
        ("fu-9", 4, "fox"),
    ]


def test_a_sampler_that_cannot_be_started_costs_only_pictures(world: World) -> None:
    def refuse(function: str, argument: dict[str, object]) -> str:
        raise VolumeError("the function is gone")

    world._spawn = refuse  # type: ignore[method-assign]
    world.script(["steps", 2], ["request_samples"], ["wait_for", "go"], ["finish"])
    result = world.boot_beside(sample_function_id="fu-9")
    wait_for(lambda: any("samples of step 2 are left out" in line for line in world.lines()), "the line")
    (world.folder.state / "go").touch()
    assert result()["status"] == "finished"


# -- the refusal of nonsense -----------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["../elsewhere", "", "nobody"])
def test_a_launch_without_sense_is_refused_in_a_sentence(world: World, folder: str) -> None:
    from backend.launchers.modal.container.worker import train

    answer = train({"folder": folder, "run_id": "r1"})
    assert (answer["ok"], answer["error"]) == (False, "bad_launch")
    assert answer["reason"]


def test_importing_the_worker_is_quick_and_needs_nothing_but_the_standard_library() -> None:
    code = (
        "import sys; before = set(sys.modules)\n"
        "import backend.launchers.modal.container.worker\n"
        "import backend.launchers.modal.container.supervisor\n"
        "import backend.launchers.modal.container.errands\n"
        "names = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(names - set(sys.stdlib_module_names) - {'backend', 'config'}))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {os.getcwd()!r})\n{code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
