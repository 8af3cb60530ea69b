"""The command line against a loopback Modal: the real SDK, courier and trainer."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from backend.demo import prepare_demo
from backend.runs.service import RunService
from tests.loopback.cloud import LoopbackCloud
from tests.loopback.fixtures import modal_cloud
from tui.cli.handover import HANDED_OVER
from tui.cli.stand_in import stand_in

from .conftest import Output

__all__ = ["modal_cloud"]

SMALL = (
    "--set",
    "sample.sample_every=1000",
    "--set",
    "train.disable_sampling=true",
    "--set",
    "save.save_every=5",
)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_demo(tmp_path_factory.mktemp("demo")).config


@pytest.fixture
def home(tmp_path: Path, modal_cloud: LoopbackCloud, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of its own, and the loopback's credentials."""
    for name, value in modal_cloud.settings().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("FLUXLORA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


def test_a_run_from_its_launch_to_its_deletion(
    cli: Output, home: Path, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, err = cli("train", str(config), "--backend", "modal", "--budget", "3", *SMALL)
    assert code == 0, err
    run_id = out.split()[1]
    assert "uploading" in err
    assert err.splitlines()[-1] == HANDED_OVER
    code, out, err = cli("save", run_id)
    assert code == 0, err
    assert "is saved" in out
    code, out, err = cli("stop", run_id)
    assert code == 0, err
    assert "resume goes on from there" in out

    code, out, err = cli("pull", run_id, "--kind", "everything", "--dest", str(tmp_path / "there"), "--json")
    assert code == 0, err
    names = {Path(path).relative_to(tmp_path / "there").as_posix() for path in json.loads(out)["files"]}
    assert {"config.yaml", "log.txt", "events.jsonl"} <= names
    (lora, *_) = sorted(name for name in names if name.endswith(".safetensors"))
    assert json.loads(cli("inspect", str(tmp_path / "there" / lora), "--json")[1])["kind"]
    code, out, err = cli("pull", run_id)
    assert code == 0, err
    assert str(home / "runs" / run_id / "checkpoints") in out

    listed = json.loads(cli("modal", "runs", "--json")[1])["runs"]
    assert [(run["id"], run["here"]) for run in listed] == [(run_id, True)]
    with monkeypatch.context() as other:
        other.setenv("FLUXLORA_HOME", str(tmp_path / "other"))
        assert json.loads(cli("modal", "runs", "--json")[1])["runs"][0]["here"] is False
        code, out, err = cli("modal", "adopt", run_id)
        assert code == 0, err
        code, out, _ = cli("logs", run_id, "--follow")
        assert "stopped" in out
        (row,) = RunService().list_now()
        assert str(row.status) == "stopped"
    assert "nothing is left over" in cli("modal", "cleanup")[1]
    code, out, err = cli("delete", run_id, "--yes")
    assert code == 0, err
    assert json.loads(cli("modal", "runs", "--json")[1])["runs"] == []


def test_train_follow_ends_with_the_place_of_the_lora(cli: Output, home: Path, config: Path) -> None:
    code, out, err = cli(
        "train", str(config), "--backend", "modal", "--follow", *SMALL, "--set", "train.steps=6"
    )
    assert code == 0, err
    assert "step 6/6" in out
    assert "flux-lora-models/demo-fox/checkpoints/demo-fox.safetensors" in out.splitlines()[-1]
    assert "fluxlora-tui pull" in out.splitlines()[-1]


def test_without_a_network_it_is_one_sentence(
    cli: Output, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODAL_SERVER_URL", "http://127.0.0.1:9")
    code, out, err = cli("modal", "runs")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "Modal cannot be reached" in err


@pytest.mark.thorough
def test_the_demo_runs_on_the_stand_in_and_brings_its_lora_home(tmp_path: Path, config: Path) -> None:
    place = tmp_path / "demo"
    shutil.copytree(config.parent, place)
    text = config.read_text(encoding="utf-8").replace("steps: 800", "steps: 4")
    (place / "demo.yaml").write_text(text.replace(str(config.parent), str(place)), encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MODAL_")}
    done = subprocess.run(
        [sys.executable, "-m", "tui", "demo", "--backend", "modal", "--headless", "--dir", str(place)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=240,
        env={**environment, "FLUXLORA_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "local stand-in for Modal at http://127.0.0.1:" in done.stderr
    lora = Path(done.stdout.splitlines()[-1].partition(": ")[2])
    assert lora.is_file()
    assert lora.is_relative_to(tmp_path / "home" / "stand-in")


def test_an_installed_copy_has_no_stand_in(
    cli: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tui.cli.stand_in._CHECKOUT", tmp_path)
    code, out, err = cli("demo", "--backend", "modal", "--headless", "--dir", str(tmp_path / "demo"))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "checkout of the source" in err
    assert not (tmp_path / "demo").exists()


def test_the_stand_in_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLUXLORA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MODAL_TOKEN_ID", "ak-mine")
    monkeypatch.setenv("MODAL_PROFILE", "mine")
    before = dict(os.environ)
    with stand_in() as address:
        assert os.environ["MODAL_SERVER_URL"] == address
        assert os.environ["MODAL_TOKEN_ID"] != "ak-mine"
        assert "MODAL_PROFILE" not in os.environ
        assert os.environ["FLUXLORA_HOME"] == str(tmp_path / "home" / "stand-in")
        with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), 10):
            pass
    assert dict(os.environ) == before
    port = int(address.rpartition(":")[2])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 10).close()
