from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from backend.doctor import machine
from backend.doctor.run import check_titles
from tests.backend.conftest import config
from tests.hub.fixtures import FLUX, hub
from tests.hub.server import LoopbackHub
from tests.loopback.cloud import LoopbackCloud

from .conftest import Output

__all__ = ["config", "hub"]

PAIR = ("ak-Qq1Ww2Ee3Rr4Tt5Yy6Uu7i", "as-Pp1Oo2Ii3Uu4Yy5Tt6Rr7e")


@pytest.fixture(autouse=True)
def own_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("MODAL_", "HF_", "HUGGING_FACE")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("FLUXLORA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MODAL_CONFIG_PATH", str(tmp_path / "modal.toml"))
    monkeypatch.setattr(
        machine, "_probed", {"torch": "2.13.0", "device": "cuda", "name": "H100", "memory": 80 << 30}
    )
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def everything(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackCloud]:
    monkeypatch.setenv("HF_TOKEN", hub.add_token(user="alice"))
    hub.models[FLUX].accepted = {"alice"}
    with LoopbackCloud(token=PAIR) as cloud:
        for name, value in cloud.settings().items():
            if name != "MODAL_CONFIG_PATH":
                monkeypatch.setenv(name, value)
        yield cloud


@pytest.mark.parametrize("backend", ["local", "modal"])
def test_ready(cli: Output, everything: LoopbackCloud, config, tmp_path: Path, backend: str) -> None:
    path = config()
    path.write_text(path.read_text(encoding="utf-8").replace("some/model", FLUX), encoding="utf-8")
    code, out, err = cli("doctor", str(path), "--backend", backend)
    assert (code, err) == (0, "")
    assert out.splitlines()[-1].startswith("ready:")
    assert all(title in out for title in check_titles().values())
    assert PAIR[1] not in out


def test_not_ready_says_what_to_do(cli: Output, hub: LoopbackHub) -> None:
    code, out, err = cli("doctor", "--backend", "modal")
    assert (code, err) == (1, "")
    assert "not ready" in out
    assert "-> fluxlora-tui login modal" in out


def test_json(cli: Output, hub: LoopbackHub, everything: LoopbackCloud) -> None:
    code, out, err = cli("doctor", "--json", "--backend", "modal")
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert document["ok"] is True
    assert [check["id"] for check in document["checks"]] == list(check_titles())
    for check in document["checks"]:
        assert set(check) == {"id", "title", "status", "detail", "fix", "needed"}
        assert check["status"] in ("ok", "warning", "missing", "failed", "unknown")
    everything.revoke_token()
    code, out, _ = cli("doctor", "--json", "--backend", "modal")
    assert code == 1
    assert json.loads(out)["ok"] is False
    assert cli("doctor", "--json", "--backend", "local")[0] == 0


def test_secrets_do_not_show(
    cli: Output, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    planted = "geheim-without-any-shape"
    monkeypatch.setenv("HF_TOKEN", planted)
    monkeypatch.setenv("MODAL_TOKEN_ID", "ak-1")
    monkeypatch.setenv("MODAL_TOKEN_SECRET", planted + "-2")
    monkeypatch.setenv("MODAL_SERVER_URL", "http://127.0.0.1:9")
    bad = tmp_path / f"{planted}.yaml"
    for arguments in (["doctor"], ["doctor", "--json"], ["doctor", str(bad)]):
        _, out, err = cli(*arguments)
        assert planted not in out + err


@pytest.mark.skipif(os.name != "posix", reason="file modes")
def test_fix_repairs_what_is_safe(cli: Output, hub: LoopbackHub, tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    dotenv = tmp_path / ".env"
    dotenv.write_text(f"HF_TOKEN={hub.add_token()}\n", encoding="utf-8")
    dotenv.chmod(0o644)
    code, out, err = cli("doctor", "--fix", "--json")
    assert "repaired: Files with secrets" in err
    assert dotenv.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / ".gitignore").read_text(encoding="utf-8") == ".env\n"
    (check,) = [check for check in json.loads(out)["checks"] if check["id"] == "secret-files"]
    assert check["status"] == "ok"
    code, out, err = cli("doctor", "--fix")
    assert code == 1  # the licence is not accepted: that is for a person to do
    assert err == ""
    assert "Files with secrets" in out


def test_a_config_that_is_not_there(cli: Output, hub: LoopbackHub) -> None:
    code, out, err = cli("doctor", "nowhere.yaml")
    assert (code, err) == (1, "")
    assert "nowhere.yaml: cannot be read: no such file" in out


def test_wrong_use(cli: Output) -> None:
    assert cli("doctor", "--backend", "moon")[0] == 2
