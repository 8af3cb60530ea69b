from __future__ import annotations

from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from backend.events import ErrorEvent, StepEvent
from backend.trainer import distributed
from backend.trainer.distributed import Team, processes_wanted
from tests.trainer.conftest import MakeRun


def losses(run: Any) -> list[float]:
    return [event.loss for event in run.events(StepEvent)]


@pytest.mark.waits
@pytest.mark.parametrize("rebuilt", [False, True], ids=["diffusers' blocks", "rebuilt blocks"])
def test_two_processes_learn_what_one_learns_with_the_same_global_batch(
    make_run: MakeRun, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, rebuilt: bool
) -> None:
    # Nothing is really compiled, which would take a minute; all else is as on GPUs: one buffer, one kernel.
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")
    monkeypatch.setattr(torch._dynamo.config, "disable", True)
    train = {"steps": 4, "lr": 1e-2, "compile": rebuilt, "optimizer": "adamw"}
    one = make_run("one", training_seed=1, train=train | {"gradient_accumulation": 4})
    two = make_run("two", training_seed=1, train=train | {"gradient_accumulation": 2, "gpus": 2})
    assert one.train() == two.train() == 0
    assert len(losses(one)) == 4
    assert losses(two) == pytest.approx(losses(one), rel=1e-5)
    alone, shared = load_file(one.final), load_file(two.final)
    assert alone.keys() == shared.keys()
    for name, weight in alone.items():
        torch.testing.assert_close(shared[name], weight, rtol=1e-4, atol=1e-6)
    said = capsys.readouterr().out
    assert said.count("training on 2 GPUs") == 1
    assert ("compiling" in said) == rebuilt


@pytest.mark.waits
def test_a_helper_that_ends_fails_the_run_with_its_last_words(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run("lost", training_seed=1, train={"steps": 50, "gpus": 2})
    update = Team.update

    def broken(team: Team, *args: Any) -> Any:
        for helper in team._helpers:
            helper.kill()
            helper.wait()
        return update(team, *args)

    monkeypatch.setattr(distributed.Team, "update", broken)
    assert run.train() == 1
    (error,) = run.events(ErrorEvent)
    assert "the process of GPU 1 ended" in error.message


def test_one_process_unless_asked(make_run: MakeRun) -> None:
    from backend.trainer.attempt import read_config
    from backend.trainer.report import Reporter

    run = make_run("plain")
    config = read_config(run.folder, Reporter(None))
    assert processes_wanted(config, torch.device("cpu")) == 1
