"""Which keys about a run are there, dim or hidden, as the run stands."""

from __future__ import annotations

import pytest

from tui.runs.allowed import ON_RUN, allowed

WHILE_LIVE = {"stop_run", "stop_now", "ask_trainer"}


@pytest.mark.parametrize("status", ["queued", "starting", "training", "stopping"])
def test_a_run_that_goes_on_is_stopped_and_asked_and_not_resumed_or_deleted(status: str) -> None:
    assert {action for action in WHILE_LIVE if allowed(action, status)} == WHILE_LIVE
    assert allowed("resume_run", status) is None
    assert allowed("delete_run", status) is None


@pytest.mark.parametrize(("status", "resumed"), [("finished", None), ("stopped", True), ("failed", True)])
def test_a_run_that_ended_is_resumed_where_that_has_sense(status: str, resumed: bool | None) -> None:
    assert allowed("resume_run", status) is resumed
    assert allowed("delete_run", status)
    assert not any(allowed(action, status) for action in WHILE_LIVE)
    assert allowed("extend", status)


def test_keys_that_have_no_sense_are_hidden_and_without_a_run_all_are_dim() -> None:
    assert allowed("bring_home", "training", remote=False) is False
    assert allowed("bring_home", "training", remote=True) is True
    assert allowed("add_gpus", "training") is False
    assert allowed("add_gpus", "training", offers_gpus=True) is True
    hidden = {action for action in ON_RUN if allowed(action, None) is False}
    assert hidden == {"bring_home", "add_gpus"}
    assert all(allowed(action, None) is None for action in ON_RUN - hidden)
