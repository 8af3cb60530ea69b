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

from backend.launchers.local import LocalLauncher
from backend.launchers.process import is_alive
from backend.runs.service import RunService
from tests.backend.conftest import COUNTING, config

from .conftest import Output

__all__ = ["config"]

Config = Callable[..., Path]


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A data folder of its own, and runs that are counted instead of trained."""
    monkeypatch.setenv("FLUXLORA_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(LocalLauncher, "TRAINER", COUNTING)
    yield
    service = RunService()
    for row in service.registry.all():
        from backend.launchers.process import kill

        kill(service.registry.record(row).handle)


def wait_for_step(run_id: str, step: int) -> None:
    deadline = time.monotonic() + 20
    while True:
        (row,) = [r for r in RunService().list_now() if r.id == run_id]
        if row.step >= step:
            return
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_help_and_version(cli: Output) -> None:
    code, out, _ = cli("--help")
    assert code == 0
    assert all(
        name in out for name in ("demo", "train", "runs", "logs", "metrics", "stop", "resume", "check")
    )
    assert cli("--version")[:2] == (0, "fluxlora-tui 0.1.0\n")
    for command, keys in (
        ("runs", ("id", "status", "steps", "loss", "created", "path", "interrupted")),
        ("metrics", ("run", "steps", "seconds", "grad_norm")),
        ("check", ("ok", "problems", "severity", "line", "column")),
    ):
        code, out, _ = cli(command, "--help")
        assert code == 0
        assert all(key in out for key in keys)


@pytest.mark.parametrize(
    "arguments", [["fly"], ["train"], ["stop"], ["train", "x", "--backend", "moon"], ["--no"]]
)
def test_wrong_use_is_2_and_a_message_on_stderr(cli: Output, arguments: list[str]) -> None:
    code, out, err = cli(*arguments)
    assert (code, out) == (2, "")
    assert "usage:" in err


def test_train_follow_prints_the_log_and_where_the_lora_lies(cli: Output, config: Config) -> None:
    code, out, err = cli("train", str(config(steps=5)), "--follow")
    assert code == 0
    lines = out.splitlines()
    assert lines[:5] == [f"step {n}/5" for n in range(1, 6)]
    assert lines[-1].endswith("checkpoints/fox.safetensors")
    assert "started in" in err


def test_set_reaches_the_run(cli: Output, config: Config) -> None:
    code, _, _ = cli("train", str(config()), "--follow", "--set", "train.steps=3", "--set", "config.name=owl")
    assert code == 0
    (row,) = json.loads(cli("runs", "--json")[1])
    assert (row["name"], row["steps"], row["step"]) == ("owl", 3, 3)


def test_runs_metrics_and_logs(cli: Output, config: Config) -> None:
    assert json.loads(cli("runs", "--json")[1]) == []
    assert cli("runs")[0] == 0
    cli("train", str(config(steps=4)), "--follow")
    (row,) = json.loads(cli("runs", "--json")[1])
    assert set(row) == {
        "id",
        "name",
        "kind",
        "backend",
        "status",
        "step",
        "steps",
        "loss",
        "dollars",
        "created",
        "path",
    }
    assert (row["status"], row["backend"], row["loss"]) == ("finished", "local", 0.25)
    assert Path(row["path"]).is_dir()
    assert row["created"].endswith("+00:00")
    table = cli("runs")[1]
    assert row["id"] in table
    assert "finished" in table

    document = json.loads(cli("metrics", "last", "--json")[1])
    assert document["run"] == row["id"]
    assert [s["step"] for s in document["steps"]] == [1, 2, 3, 4]
    assert {"step", "loss", "lr", "seconds"} <= set(document["steps"][0])
    assert "0.25000" in cli("metrics", row["id"][:4])[1]
    assert cli("logs", row["id"])[1].splitlines() == [f"step {n}/4" for n in range(1, 5)]
    assert cli("logs", "fox", "--follow")[1].count("\n") == 4


def test_unknown_runs_are_2(cli: Output, config: Config) -> None:
    for command in ("logs", "metrics", "stop", "resume"):
        code, out, err = cli(command, "nope")
        assert (code, out) == (2, "")
        assert "no runs yet" in err
    cli("train", str(config(steps=1)), "--follow")
    assert "no run fits 'nope'" in cli("logs", "nope")[2]


def test_stop_and_resume(cli: Output, config: Config) -> None:
    code, out, _ = cli("train", str(config(steps=3000)))
    assert code == 0
    run_id = out.split()[1]
    wait_for_step(run_id, 3)
    assert "nothing to resume" in cli("resume", run_id)[2]
    code, out, _ = cli("stop", run_id)
    assert code == 0
    assert "stopped" in out
    code, _, err = cli("stop", run_id)
    assert code == 1
    assert "stopped already" in err
    done = json.loads(cli("metrics", run_id, "--json")[1])["steps"][-1]["step"]
    code, out, _ = cli("resume", run_id, "--follow", "--set", f"train.steps={done + 2}")
    assert code == 0
    assert out.splitlines()[:2] == [f"step {done + 1}/{done + 2}", f"step {done + 2}/{done + 2}"]
    code, _, err = cli("resume", run_id)
    assert code == 1
    assert "finished" in err


def test_stop_now_and_no_wait(cli: Output, config: Config) -> None:
    run_id = cli("train", str(config("deaf", steps=100_000)))[1].split()[1]
    wait_for_step(run_id, 1)
    assert cli("stop", run_id, "--now")[0] == 0
    assert json.loads(cli("runs", "--json")[1])[0]["status"] == "stopped"
    run_id = cli("train", str(config(steps=3000)))[1].split()[1]
    wait_for_step(run_id, 1)
    assert cli("stop", run_id, "--no-wait")[0] == 0


def test_a_run_that_fails_while_followed_is_1(cli: Output, config: Config) -> None:
    code, _, err = cli("train", str(config("mute")), "--follow")
    assert code == 1
    assert "interrupted" in err
    assert "cannot even start" in err


def test_check(cli: Output, config: Config, tmp_path: Path) -> None:
    path = config()
    code, out, err = cli("check", str(path))
    assert (code, err) == (0, "")
    assert "ok" in out
    assert json.loads(cli("check", str(path), "--json")[1]) == {"ok": True, "problems": []}

    code, out, err = cli("check", str(path), "--set", "train.steps=x", "--set", "train.stepz=1")
    assert (code, out) == (2, "")
    assert f"{path}: train.steps: is 'x'; it must be a whole number\n" in err
    path.write_text(path.read_text().replace("steps: 20", "steps: -1"))
    code, out, err = cli("check", str(path))
    assert code == 2
    assert f"{path}:6: train.steps: is -1; it must be at least 1" in err
    code, out, _ = cli("check", str(path), "--json")
    document = json.loads(out)
    assert code == 2
    assert document["ok"] is False
    assert document["problems"][0] == {
        "severity": "error",
        "key": "train.steps",
        "line": 6,
        "column": 15,
        "message": "is -1; it must be at least 1",
    }
    assert cli("train", str(path))[0] == 2
    code, _, err = cli("check", str(tmp_path / "no\n[b]pe.yaml"))
    assert code == 2
    assert "no such file" in err
    assert json.loads(cli("runs", "--json")[1]) == []


def test_an_unusable_data_folder_is_one_sentence(
    cli: Output, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    path = config()
    with monkeypatch.context() as patch:
        patch.setenv("FLUXLORA_HOME", str(tmp_path / "file" / "below"))
        for arguments in (["runs"], ["train", str(path)]):
            code, _, err = cli(*arguments)
            assert code == 1
            assert err.count("\n") == 1
            assert "Traceback" not in err


def test_the_app_needs_a_terminal(cli: Output) -> None:
    code, _, err = cli()
    assert code == 2
    assert "terminal" in err
    assert cli("demo")[0] == 2


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_stops_following_not_the_run(config: Config, tmp_path: Path) -> None:
    # The command is the real one; only its trainer is the counting one.
    code = (
        "import sys; from backend.launchers.local import LocalLauncher; "
        f"LocalLauncher.TRAINER = {COUNTING!r}; from tui.cli.main import run; sys.exit(run(sys.argv[1:]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, "train", str(config(steps=3000)), "--follow"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    while "step 3/" not in process.stdout.readline():
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "the run goes on" in err
    assert "Traceback" not in err
    service = RunService()
    (row,) = service.list_now()
    assert row.status == "training"
    assert is_alive(service.registry.record(row).handle)


def test_a_reader_that_goes_away_is_no_error(config: Config) -> None:
    result = subprocess.run(
        f"{sys.executable} -m tui runs --help | head -1",
        shell=True,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "usage" in result.stdout
    assert result.stderr == ""


def test_a_fault_of_ours_is_a_sentence_and_a_file(
    cli: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = "hf_" + "x1Y2" * 8

    def broken(self: RunService) -> None:
        raise RuntimeError(f"unforeseen {token}")

    monkeypatch.setattr(RunService, "list_now", broken)
    code, out, err = cli("runs")
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert "internal error" in err
    details = (tmp_path / "home" / "crash.txt").read_text(encoding="utf-8")
    assert "Traceback" in details
    assert token not in details + err
