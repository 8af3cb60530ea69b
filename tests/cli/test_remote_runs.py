"""Commands on runs that train elsewhere, with a launcher that only pretends to."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backend.events import CheckpointEvent, Status
from backend.launchers.process import kill
from backend.runs.folder import RunRecord
from backend.runs.service import RunService
from tests.backend.conftest import config
from tui.cli import handover, requests

from .conftest import Output
from .pretend_modal import pretend, pretend_modal

__all__ = ["config", "pretend_modal"]

Config = Callable[..., Path]
pytestmark = pytest.mark.usefixtures("pretend_modal")


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("FLUXLORA_HOME", str(tmp_path / "home"))
    yield
    registry = RunService().registry
    for row in registry.all():
        kill(registry.record(row).handle)


@pytest.fixture
def run(cli: Output, config: Config) -> RunRecord:
    """A run that goes on for long."""
    assert cli("train", str(config(steps=100_000)), "--backend", "modal")[0] == 0
    return RunService().record_now("last")


def told(err: str) -> list[str]:
    """What was said, the check's remarks on the config apart."""
    return [line for line in err.splitlines() if not line.endswith("[warning]")]


def end(cli: Output) -> None:
    assert cli("stop", "last")[0] == 0


def put(run: RunRecord, *files: tuple[str, bytes]) -> None:
    """Put files on the run's pretended volume."""
    for path, data in files:
        target = run.path / "volume" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)


def test_train_waits_until_the_run_needs_this_machine_no_more(cli: Output, config: Config) -> None:
    code, out, err = cli("train", str(config(steps=100_000)), "--backend", "modal")
    assert code == 0
    first, second = out.splitlines()
    assert first.startswith("run ")
    assert "started in" in first
    assert "logs" in second
    lines = told(err)
    assert lines[0] == "uploading"
    assert any("100.0 MiB of 100.0 MiB (100 %)" in line for line in lines)
    assert lines[-2:] == ["building image", handover.HANDED_OVER]
    (row,) = RunService().list_now()
    assert row.step >= 3  # only then does the launcher say that it is safe
    assert (row.backend, row.dollars) == ("modal", 0.42)


def test_train_does_not_wait_where_it_is_told(cli: Output, config: Config) -> None:
    code, _, err = cli("train", str(config(steps=100_000)), "--backend", "modal", "--no-wait")
    assert (code, told(err)) == (0, [])


def test_a_run_that_ends_before_it_is_handed_over(cli: Output, config: Config) -> None:
    code, out, err = cli("train", str(config(steps=1)), "--backend", "modal")
    assert code == 0  # finished is no failure
    assert "watch it" in out
    assert handover.HANDED_OVER not in err


def test_gpu_and_budget_reach_the_run(cli: Output, config: Config) -> None:
    arguments = ("--gpu", "l40s,a100-80gb", "--budget", "2.5", "--no-wait")
    assert cli("train", str(config()), "--backend", "modal", *arguments)[0] == 0
    from config.load import load_config

    modal = load_config(RunService().record_now("last").path / "config.yaml").config.process.modal
    assert (modal.gpu, modal.budget) == (["L40S", "A100-80GB"], 2.5)
    code, _, err = cli("train", str(config("owl")), "--backend", "modal", "--gpu", "H10000")
    assert code == 2
    assert "'H10000' is no GPU of Modal's" in err
    code, _, err = cli("train", str(config("owl")), "--budget", "3")
    assert code == 2
    assert "add --backend modal" in err


def test_follow_says_where_the_lora_is(cli: Output, config: Config) -> None:
    code, out, err = cli("train", str(config(steps=20)), "--backend", "modal", "--follow")
    assert code == 0
    assert "step 20/20" in out
    last = out.splitlines()[-1]
    run_id = RunService().record_now("last").id
    assert "flux-lora-models/fox/checkpoints/fox.safetensors" in last
    assert f"fluxlora-tui pull {run_id}" in last
    assert "started in" in err


def test_follow_tells_of_an_outage_beside_the_log(cli: Output, run: RunRecord, tmp_path: Path) -> None:
    program = (
        "import sys; import pytest; from tests.cli.pretend_modal import PretendModal; "
        "from backend.runs.service import RunService; real = RunService.launcher\n"
        "def launcher(self, run):\n"
        "    self._launchers.setdefault('modal', PretendModal(self.registry)); return real(self, run)\n"
        "RunService.launcher = launcher\n"
        "from tui.cli.main import run; sys.exit(run(sys.argv[1:]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, "logs", run.id, "--follow"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    drain = threading.Thread(target=process.stdout.read, daemon=True)
    drain.start()
    try:
        pretend(run.path, online=False, link_since=time.time(), link_why="no route\x1b[2J to host")
        line = process.stderr.readline()
        assert "Modal cannot be reached since" in line
        assert "no route\N{REPLACEMENT CHARACTER}[2J to host" in line
        pretend(run.path, online=True, link_since=time.time(), link_why="")
        assert "can be reached again" in process.stderr.readline()
    finally:
        process.kill()
        process.wait()
        drain.join()
        process.stderr.close()


def test_save_sample_and_extend_print_the_answer(cli: Output, run: RunRecord) -> None:
    code, out, _ = cli("save", run.id)
    assert code == 0
    assert "save at step" in out
    code, out, err = cli("sample", run.id)
    assert (code, out) == (1, "")
    assert "it has no prompts" in err
    code, out, _ = cli("extend", run.id, "200000")
    assert code == 0
    assert "extend at step" in out
    assert RunService().list_now()[0].steps == 200_000
    assert cli("extend", run.id, "many")[0] == 2
    assert "number of steps" in cli("extend", run.id, "-3")[2] + cli("extend", run.id, "0")[2]
    end(cli)
    code, _, err = cli("save", run.id)
    assert code == 1
    assert "stopped" in err


def test_no_answer_in_time_is_a_sentence(
    cli: Output, run: RunRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(self: object, run: RunRecord, command: object) -> None:
        pretend(run.path, online=False)

    monkeypatch.setattr(requests, "_PATIENCE", 1.0)
    monkeypatch.setattr("tests.cli.pretend_modal.PretendModal.command", lost)
    code, out, err = cli("save", run.id)
    assert (code, out) == (1, "")
    assert "as soon as it can" in err
    assert "has not answered within 1 s" in err


def test_pull_brings_the_newest_lora_and_the_pictures_home(
    cli: Output, run: RunRecord, tmp_path: Path
) -> None:
    code, _, err = cli("pull", run.id)
    assert code == 1
    assert "has no LoRA yet" in err
    put(
        run,
        ("checkpoints/fox_000000100.safetensors", b"one"),
        ("checkpoints/fox_000000200.safetensors", b"two"),
        ("samples/1.png", b"picture"),
        ("config.yaml", b"config"),
    )
    code, out, err = cli("pull", run.id)
    assert code == 0
    assert [Path(line).name for line in out.splitlines()] == ["fox_000000200.safetensors", "1.png"]
    assert "100 %" in err
    assert (run.path / "checkpoints" / "fox_000000200.safetensors").read_bytes() == b"two"
    put(run, ("checkpoints/fox.safetensors", b"final"))
    code, out, _ = cli("pull", run.id, "--dest", str(tmp_path / "there"), "--json")
    assert code == 0
    answer = json.loads(out)
    assert answer["run"] == run.id
    assert [Path(path).name for path in answer["files"]] == ["fox.safetensors", "1.png"]
    assert (tmp_path / "there" / "samples" / "1.png").read_bytes() == b"picture"
    for kind, count in (("checkpoints", 3), ("samples", 1), ("everything", 5)):
        out = cli("pull", run.id, "--kind", kind, "--dest", str(tmp_path / kind))[1]
        assert len(out.splitlines()) == count
    # The rest of the folder is the mirror's: it never comes home over it.
    assert len(cli("pull", run.id, "--kind", "everything")[1].splitlines()) == 4


def test_pull_of_a_run_of_this_machine_copies(cli: Output, config: Config, tmp_path: Path) -> None:
    assert cli("train", str(config(steps=20)), "--backend", "modal", "--follow")[0] == 0
    service = RunService()
    record = service.record_now("last")
    (record.path / "checkpoints" / "fox.safetensors").write_bytes(b"final")
    fields = json.loads((record.path / "state" / "run.json").read_text())
    (record.path / "state" / "run.json").write_text(json.dumps(fields | {"backend": "local"}))
    (service.registry.root / "runs.db").unlink()
    code, out, err = cli("pull", record.id)
    assert (code, err) == (0, "")
    assert Path(out.strip()) == record.path / "checkpoints" / "fox.safetensors"
    code, out, _ = cli("pull", record.id, "--dest", str(tmp_path / "copy"))
    assert (tmp_path / "copy" / "checkpoints" / "fox.safetensors").read_bytes() == b"final"


def test_delete_asks_and_deletes(cli: Output, run: RunRecord) -> None:
    code, _, err = cli("delete", run.id, "--yes")
    assert code == 1
    assert "fluxlora-tui stop" in err
    end(cli)
    code, _, err = cli("delete", run.id)
    assert code == 2
    assert "--yes" in err
    assert run.path.is_dir()
    code, out, _ = cli("delete", run.id, "--yes")
    assert (code, out) == (0, f"run {run.id} was deleted\n")
    assert not run.path.exists()
    assert json.loads(cli("runs", "--json")[1]) == []


def test_resume_tells_only_the_new_launch(cli: Output, run: RunRecord) -> None:
    end(cli)
    code, out, err = cli("resume", run.id)
    assert code == 0
    assert "watch it" in out
    assert err.splitlines().count("building image") == 1
    assert err.splitlines()[-1] == handover.HANDED_OVER


@pytest.mark.parametrize("command", ["pull", "save", "sample", "extend", "delete", "modal"])
def test_every_command_has_help(cli: Output, command: str) -> None:
    code, out, _ = cli(command, "--help")
    assert code == 0
    assert "exit codes" in out
    assert command in cli("--help")[1]


def test_a_run_that_has_no_checkpoint_says_nothing_of_one(cli: Output, run: RunRecord) -> None:
    from backend.runs.view import RunView
    from tui.cli.following import _on_the_volume

    view = RunView()
    assert _on_the_volume(run, view, "volume/fox") is None
    view.apply([CheckpointEvent(seq=1, step=3, path="checkpoints/fox.safetensors")])
    assert "volume/fox/checkpoints/fox.safetensors" in (_on_the_volume(run, view, "volume/fox") or "")
    assert view.status is Status.QUEUED
