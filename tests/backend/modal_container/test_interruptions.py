"""Containers that Modal takes back: preempted, cancelled, killed."""

from __future__ import annotations

import json
import random
import signal
import time

import psutil

from backend.launchers.modal import wire
from backend.launchers.modal.container.verdict import STUCK
from tests.backend.modal_container.conftest import World, wait_for


def test_a_preempted_container_saves_commits_and_passes_it_on(world: World) -> None:
    world.script(["steps", 4], ["wait"], boot=1)
    world.script(["steps", 2], ["finish"], boot=2)
    first = world.process()
    wait_for(lambda: world.reached(4), "step 4")
    first.send_signal(signal.SIGINT)
    said = world.said(first)
    assert said["raised"] == "KeyboardInterrupt"
    assert world.status()["status"] == "interrupted"
    assert world.status()["ok"] is None
    assert world.events("status")[-1]["reason"] == "preempted; goes on by itself in a new container"
    assert world.events("checkpoint")[-1]["step"] == 4
    assert world.boots()[0]["end"] == "preempted"
    assert not world.folder.stop_file.exists()
    result = world.said(world.process())["result"]
    assert (result["status"], result["boot"], result["step"]) == ("finished", 2, 6)
    for boot in (1, 2):
        assert world.log_printed(boot) == world.log_kept(boot)
    assert world.events_printed() == world.folder.events.read_text().splitlines()


def test_a_container_preempted_before_its_trainer_has_begun(world: World) -> None:
    world.script(["steps", 2], ["finish"])
    first = world.process()
    wait_for(lambda: (world.folder.state / "boots.json").exists(), "the container's entry")
    first.send_signal(signal.SIGINT)
    assert world.said(first)["raised"] == "KeyboardInterrupt"
    assert world.boots()[0]["end"] == "preempted"
    ended = world.events("status")[-1]["status"]
    result = world.said(world.process())["result"]
    if ended == "interrupted":
        assert (result["status"], result["boot"]) == ("finished", 2)
    else:  # it was quicker than the signal
        assert (ended, result["boot"]) == ("finished", 1)


def test_a_cancelled_input_saves_commits_and_passes_it_on(world: World) -> None:
    world.script(["steps", 4], ["wait"])
    process = world.process()
    wait_for(lambda: world.reached(4), "step 4")
    process.send_signal(signal.SIGUSR1)
    said = world.said(process)
    assert (said["raised"], said["text"]) == ("InputCancellation", "Input was cancelled by user")
    assert world.status()["status"] == "stopped"
    assert world.boots()[0]["end"] == "cancelled"
    assert world.events("checkpoint")[-1]["step"] == 4


def test_further_signals_while_saving_change_nothing(world: World) -> None:
    world.script(["steps", 4], ["wait"])
    process = world.process()
    wait_for(lambda: world.reached(4), "step 4")
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGINT, signal.SIGTERM, signal.SIGINT):
        if process.poll() is None:
            process.send_signal(number)
            time.sleep(0.02)
    assert world.said(process)["raised"] == "KeyboardInterrupt"
    assert world.events("status")[-1]["status"] == "interrupted"
    assert world.events("checkpoint")[-1]["step"] == 4
    assert "events.jsonl" in world.manifest()


def test_a_preempted_trainer_that_does_not_react_is_ended_in_time(world: World) -> None:
    world.script(["steps", 4], ["checkpoint"], ["deaf"])
    grace = {"preempted": 1.0, "cancelled": 1.0, "budget": 1.0, "user": 1.0}
    process = world.process(grace=grace)
    wait_for(lambda: (world.folder.state / "deaf").exists(), "the deaf trainer")
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert world.said(process)["raised"] == "KeyboardInterrupt"
    assert time.monotonic() - began < 25
    assert world.events("status")[-1]["status"] == "interrupted"


def test_a_trainer_does_not_outlive_its_container(world: World) -> None:
    world.script(["steps", 4], ["wait"], boot=1)
    world.script(["finish"], boot=2)
    process = world.process()
    wait_for(lambda: world.reached(4), "step 4")
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    process.kill()
    process.communicate()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive
    result = world.said(world.process())["result"]
    assert (result["status"], result["boot"]) == ("finished", 2)
    assert world.boots()[0]["end"] is None


def test_killed_again_and_again_no_number_is_ever_used_twice(world: World) -> None:
    """Whatever moment the kills pick: what was printed and what was kept can be told together."""
    world.launch(max_boots=50)
    world.script(
        ["steps", 3], ["checkpoint"], ["pause", 0.05], *[["steps", 40], ["pause", 0.05]] * 20, ["finish"]
    )
    for _ in range(5):
        process = world.process(commit_interval=0.1)
        children: list[psutil.Process] = []
        end = time.monotonic() + random.uniform(0.1, 1.5)
        while time.monotonic() < end and process.poll() is None:
            children = psutil.Process(process.pid).children(recursive=True) or children
            time.sleep(0.01)
        process.kill()
        process.communicate()
        psutil.wait_procs(children, timeout=20)
    result = world.said(world.process())["result"]
    # Kills that met two containers in a row at one step look like a run that is stuck there, rightly.
    assert result["status"] == "finished" or result["error"] == STUCK, result

    printed = [json.loads(text)["seq"] for text in world.events_printed()]
    kept = [event["seq"] for event in world.events()]
    assert len(printed) == len(set(printed))
    assert len(kept) == len(set(kept))
    parsed = [p for line in world.lines() if isinstance(p := wire.parse(line), wire.LogLine)]
    assert len(parsed) == len({(p.boot, p.number) for p in parsed})
    for boot in [b["boot"] for b in world.boots()]:
        # A killed container may have printed more or less than it kept, and kept half of its last line.
        both = list(zip(world.log_printed(boot), world.log_kept(boot), strict=False))
        assert [a for a, b in both[:-1] if a != b] == []
