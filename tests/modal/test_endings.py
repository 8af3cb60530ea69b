"""Every way in which a run can end or be shaken has its status and its sentence, and costs nothing after."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

import pytest

from tests.modal.client import Client, complete


def begun(computer: Client, *options: str, steps: int = 3) -> object:
    run = computer.launch(*options)
    computer.wait(lambda: len(computer.steps(run)) >= steps, 60, "some steps")
    return run


def test_stop_saves_and_resume_goes_on(pretend: Callable[..., Client]) -> None:
    computer = pretend(pause=0.05)
    run = begun(computer, "train.steps=200")
    result = computer.run("stop", "last", seconds=100)
    assert result.returncode == 0, result.stderr + computer.report()
    status = computer.wait_for_end(run)
    assert status["status"] == "stopped"
    at = status["step"]
    assert 0 < at < 200
    assert (computer.cloud.volume("flux-lora-models").read(f"fox/checkpoints/fox_{at:09d}.safetensors")) == (
        b"lora of step %d" % at
    )
    computer.settles()

    computer.cloud.knobs.environment["PRETEND"] = json.dumps({"pause": 0.0})
    resumed = computer.run("resume", "last", "--set", "train.steps=210")
    assert resumed.returncode == 0, resumed.stderr
    status = computer.wait_for_end(run)
    assert (status["status"], status["step"], status["steps"]) == ("finished", 210, 210), computer.report()
    assert complete(210, computer.events(run))
    assert len(computer.cloud.apps()) == 2
    computer.settles()


def test_stop_now(pretend: Callable[..., Client]) -> None:
    computer = pretend(pause=0.05)
    run = begun(computer, "train.steps=2000")
    result = computer.run("stop", "last", "--now", seconds=100)
    assert result.returncode == 0, result.stderr + computer.report()
    assert computer.wait_for_end(run)["status"] == "stopped"
    computer.settles()


def test_stop_while_it_waits_for_a_gpu(pretend: Callable[..., Client]) -> None:
    computer = pretend()
    computer.cloud.no_gpu(["H100", "A100-80GB"])
    run = computer.launch()
    computer.wait(lambda: "waiting for a GPU" in computer.said(run), 60, "waiting")
    result = computer.run("stop", "last", seconds=100)
    assert result.returncode == 0, result.stderr + computer.report()
    assert computer.wait_for_end(run)["status"] == "stopped"
    computer.settles()


def test_stop_while_the_image_is_built(pretend: Callable[..., Client]) -> None:
    computer = pretend()
    computer.cloud.build_delay(15)
    run = computer.launch()
    computer.wait(lambda: "image: " in computer.said(run), 60, "lines of the build")
    result = computer.run("stop", "last", seconds=100)
    assert result.returncode == 0, result.stderr + computer.report()
    assert computer.wait_for_end(run)["status"] == "stopped"
    computer.settles()


def test_preempted(pretend: Callable[..., Client]) -> None:
    computer = pretend(pause=0.05)
    run = begun(computer, "train.steps=150", steps=12)
    computer.cloud.preempt()
    status = computer.wait_for_end(run)
    assert (status["status"], status["step"]) == ("finished", 150), computer.report()
    assert complete(150, computer.events(run))
    assert "container 2" in computer.said(run)


def test_the_machine_dies(pretend: Callable[..., Client]) -> None:
    computer = pretend(pause=0.05)
    run = begun(computer, "train.steps=150", steps=25)
    computer.cloud.kill()
    status = computer.wait_for_end(run)
    assert (status["status"], status["step"]) == ("finished", 150), computer.report()
    assert complete(150, computer.events(run))


@pytest.mark.parametrize(
    ("deeds", "status", "sentence"),
    [
        ({"1": {"15": "fail"}}, "failed", "the loss is not a number"),
        ({"1": {"15": "oom"}}, "failed", "ran out of main memory"),
        pytest.param({"1": {"15": "crash"}}, "finished", "container 2", marks=pytest.mark.thorough),
    ],
    ids=["fails", "oom", "crashes once"],
)
def test_the_trainer_ends_badly(
    pretend: Callable[..., Client], deeds: dict[str, dict[str, str]], status: str, sentence: str
) -> None:
    computer = pretend(pause=0.02, deeds=deeds)
    run = computer.launch("train.steps=40")
    ended = computer.wait_for_end(run)
    assert ended["status"] == status, computer.report()
    assert sentence in computer.said(run)
    computer.settles()
    assert any("checkpoints" in str(file) for file in computer.cloud.volume("flux-lora-models").files())


@pytest.mark.thorough
def test_the_container_runs_out_of_memory_once(pretend: Callable[..., Client]) -> None:
    computer = pretend(pause=0.05)
    run = begun(computer, "train.steps=120", steps=25)
    computer.cloud.oom()
    status = computer.wait_for_end(run)
    assert (status["status"], status["step"]) == ("finished", 120), computer.report()
    assert complete(120, computer.events(run))


def test_a_data_set_that_cannot_be_read(computer: Client) -> None:
    for picture in (computer.config.parent / "pictures").glob("*.png"):
        picture.write_bytes(picture.read_bytes()[:60])
    run = computer.launch("train.steps=3")
    status = computer.wait_for_end(run, 120)
    assert status["status"] == "failed", computer.report()
    assert "Traceback" not in computer.said(run)
    assert ".png" in computer.said(run)
    computer.settles()


def test_the_call_is_cancelled_elsewhere(pretend: Callable[..., Client]) -> None:
    computer = pretend(pause=0.05)
    run = begun(computer, "train.steps=2000", steps=12)
    call = computer.journal(run).call_id
    code = f"import modal; modal.FunctionCall.from_id({call!r}).cancel()"
    subprocess.run(
        [computer.command()[0], "-c", code],
        env=computer.environment,
        check=True,
        timeout=60,
        capture_output=True,
    )
    status = computer.wait_for_end(run)
    assert status["status"] == "stopped", computer.report()
    assert status["step"] >= 12
    computer.settles()


def test_somebody_stops_the_app_elsewhere(pretend: Callable[..., Client]) -> None:
    computer = pretend(pause=0.05)
    run = begun(computer, "train.steps=2000", steps=12)
    subprocess.run(
        [computer.command()[0], "-m", "modal", "app", "stop", "--yes", computer.cloud.app().app_id],
        env=computer.environment,
        capture_output=True,
        timeout=60,
        check=True,
    )
    status = computer.wait_for_end(run)
    assert status["status"] == "stopped", computer.report()
    computer.settles()


def test_the_budget_is_used_up(pretend: Callable[..., Client]) -> None:
    computer = pretend(pause=0.1)
    run = computer.launch("train.steps=2000", "modal.hours=0.002")  # 7.2 s
    status = computer.wait_for_end(run)
    assert status["status"] == "stopped", computer.report()
    assert "used up" in computer.said(run)
    computer.settles()


def test_the_container_lacks_our_code(pretend: Callable[..., Client]) -> None:
    computer = pretend()
    computer.cloud.knobs.environment["FLUXLORA_TRAINER"] = "no_such_module"
    run = computer.launch()
    status = computer.wait_for_end(run)
    assert status["status"] == "failed", computer.report()
    assert "no_such_module" in computer.said(run)
    computer.settles()


def test_the_image_cannot_be_built(pretend: Callable[..., Client]) -> None:
    computer = pretend()
    computer.cloud.build_failure("no matching distribution for torch")
    run = computer.launch()
    status = computer.wait_for_end(run)
    assert status["status"] == "failed", computer.report()
    assert "image could not be built" in computer.said(run)
    computer.settles()


def test_the_volume_is_full(pretend: Callable[..., Client]) -> None:
    computer = pretend(pause=0.02, deeds={"1": {"150": "fill"}})  # when step 20 is committed for sure
    computer.cloud.knobs.volume_limit = 12 << 20
    run = computer.launch("train.steps=2000")
    status = computer.wait_for_end(run)
    assert status["status"] == "failed", computer.report()
    assert "is full" in computer.said(run)
    assert computer.cloud.volume("flux-lora-models").read("fox/checkpoints/fox_000000020.safetensors")
    computer.settles()


def test_no_network_at_the_launch(pretend: Callable[..., Client]) -> None:
    computer = pretend()
    computer.environment["MODAL_SERVER_URL"] = "http://127.0.0.1:9"
    run = computer.launch()
    status = computer.wait_for_end(run, 30)
    assert status["status"] == "failed"
    assert "Modal cannot be reached" in computer.said(run)


def test_a_wrong_token(pretend: Callable[..., Client]) -> None:
    computer = pretend()
    computer.environment["MODAL_TOKEN_SECRET"] = "as-" + "x" * 22
    run = computer.launch()
    status = computer.wait_for_end(run, 30)
    assert status["status"] == "failed"
    assert "does not accept the token" in computer.said(run)


def test_no_token_at_all(pretend: Callable[..., Client]) -> None:
    computer = pretend()
    for name in ("MODAL_TOKEN_ID", "MODAL_TOKEN_SECRET"):
        del computer.environment[name]
    result = computer.run("train", str(computer.config), "--backend", "modal")
    assert result.returncode == 1
    assert "there is no Modal token" in result.stderr
    assert not computer.folders()


def test_expired_outputs_and_logs(pretend: Callable[..., Client]) -> None:
    computer = pretend(pause=0.02)
    run = begun(computer, "train.steps=60")
    computer.switch_off()
    computer.cloud.wait(lambda: not computer.cloud.tasks(running=True), 60, "the run's end")
    computer.cloud.expire_outputs()
    computer.cloud.expire_logs()
    status = computer.wait_for_end(run)
    assert (status["status"], status["step"]) == ("finished", 60), computer.report()
    assert complete(60, computer.events(run))
