"""``fluxlora-tui modal``: what is asked of Modal, and how its answers are printed."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from backend.launchers.modal import errand
from backend.launchers.modal.remote import OfflineError
from tests.backend.conftest import config

from .conftest import Output

__all__ = ["config"]

RUN = {
    "id": "abcd2345",
    "name": "fox\x1b[2J",
    "folder": "fox-2",
    "steps": 2000,
    "step": 120,
    "status": "training",
    "reason": None,
    "created": 1_763_900_000.0,
    "updated": 0.0,
    "app_id": "ap-1",
    "here": False,
    "billed": 0.42,
}
LEFTOVER = {"app_id": "ap-9", "run_id": "abcd2345", "why": "its run is finished", "created": None}


class Asked:
    """Answers for jobs, and what was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.environments: list[Mapping[str, str]] = []

    async def __call__(
        self,
        job: str,
        arguments: Mapping[str, Any],
        progress: Callable[[int, int], None] | None = None,
        *,
        environment: Mapping[str, str] | None = None,
    ) -> Any:
        self.calls.append((job, dict(arguments)))
        self.environments.append(environment or {})
        answer = self.answers[job]
        if isinstance(answer, Exception):
            raise answer
        if progress is not None:
            progress(1 << 30, 2 << 30)
            progress(2 << 30, 2 << 30)
        return answer


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asked:
    asked = Asked()
    monkeypatch.setattr(errand, "ask", asked)
    monkeypatch.setenv("FLUXLORA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MODAL_CONFIG_PATH", str(tmp_path / "none.toml"))
    monkeypatch.delenv("MODAL_TOKEN_ID", raising=False)
    monkeypatch.delenv("MODAL_TOKEN_SECRET", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("MODAL_TOKEN_ID=ak-1\nMODAL_TOKEN_SECRET=as-1\n", encoding="utf-8")
    return asked


def test_runs(cli: Output, asked: Asked) -> None:
    asked.answers["runs"] = {"workspace": "me", "runs": [RUN]}
    code, out, _ = cli("modal", "runs")
    assert code == 0
    head, row = out.splitlines()
    assert head.split() == ["ID", "NAME", "STATUS", "STEP", "APP", "HERE", "CREATED", "BILLED", "FOLDER"]
    assert row.split()[2:6] == ["training", "120/2000", "ap-1", "no"]
    assert "\x1b" not in out
    answer = json.loads(cli("modal", "runs", "--json", "--volume", "other", "--environment", "dev")[1])
    assert answer["workspace"] == "me"
    assert answer["runs"][0]["updated"] is None
    assert answer["runs"][0]["created"].endswith("+00:00")
    assert [call[1]["volume"] for call in asked.calls] == ["flux-lora-models", "other"]
    assert asked.calls[1][1]["environment"] == "dev"
    assert asked.environments[0]["MODAL_TOKEN_ID"] == "ak-1"  # of .env
    asked.answers["runs"] = {"workspace": "me", "runs": []}
    assert cli("modal", "runs")[:2] == (0, "")


def test_without_a_token_or_a_network_it_is_one_sentence(cli: Output, asked: Asked, tmp_path: Path) -> None:
    asked.answers["runs"] = OfflineError("connecting: Modal cannot be reached (no answer in time)")
    code, out, err = cli("modal", "runs")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "cannot be reached" in err
    (tmp_path / ".env").unlink()
    code, out, err = cli("modal", "cleanup")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "fluxlora-tui login modal" in err
    assert len(asked.calls) == 1


def test_adopt(cli: Output, asked: Asked) -> None:
    asked.answers["adopt"] = {"id": "abcd2345", "path": "/runs/abcd2345"}
    code, out, _ = cli("modal", "adopt", "abcd")
    assert code == 0
    assert "abcd2345" in out
    assert asked.calls[0][1]["run"] == "abcd"


def test_cleanup_lists_and_stops_only_when_it_is_told(
    cli: Output, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked.answers["cleanup"] = {"leftovers": [LEFTOVER], "removed": False}
    code, out, err = cli("modal", "cleanup")
    assert code == 0
    assert "its run is finished" in out
    assert "--yes" in err
    assert json.loads(cli("modal", "cleanup", "--json")[1])["removed"] is False
    assert [call[1]["remove"] for call in asked.calls] == [False, False]

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for answer, stopped in (("n\n", False), ("y\n", True)):
        asked.calls.clear()
        with monkeypatch.context() as patch:
            patch.setattr("sys.stdin", Terminal(answer))
            patch.setattr("sys.stderr", Terminal())
            code, out, _ = cli("modal", "cleanup")
        assert [call[1]["remove"] for call in asked.calls] == [False] + [True] * stopped
        assert code == (0 if stopped else 1)
        assert ("1 app stopped" in out) is stopped
    asked.calls.clear()
    assert json.loads(cli("modal", "cleanup", "--json", "--yes")[1])["removed"] is True
    asked.answers["cleanup"] = {"leftovers": [], "removed": False}
    assert "nothing" in cli("modal", "cleanup", "--yes")[1]


def test_models_and_prefetch(cli: Output, asked: Asked, config: Callable[..., Path], tmp_path: Path) -> None:
    model = "black-forest-labs/FLUX.1-dev"
    asked.answers["library"] = {
        "models": [{"repo": model, "bytes": 24 << 30, "complete": True, "folder": "."}]
    }
    assert cli("modal", "models")[1].splitlines()[1].split() == [model, "24.0", "GiB", "yes"]
    assert json.loads(cli("modal", "models", "--json")[1])[0]["repo"] == model
    asked.calls.clear()
    asked.answers["prefetch"] = {"models": [model], "fetched": [model]}
    code, out, err = cli("modal", "prefetch")
    assert (code, out) == (0, f"{model}: downloaded\n")
    assert "1.0 GiB of 2.0 GiB (50 %)" in err
    asked.answers["prefetch"] = {"models": ["some/model"], "fetched": []}
    assert "was there already" in cli("modal", "prefetch", str(config()))[1]
    assert cli("modal", "prefetch", "other/model", "--volume", "mine")[0] == 0
    assert [call[1]["models"] for call in asked.calls] == [[model], ["some/model"], ["other/model"]]
    assert [call[1]["base_volume"] for call in asked.calls] == ["flux-base-model", "flux-base-model", "mine"]
    code, _, err = cli("modal", "prefetch", str(tmp_path))
    assert code == 2
    assert "no model of the Hugging Face Hub" in err
    assert cli("modal", "prefetch", "none.yaml")[0] == 2


def test_wrong_use(cli: Output, asked: Asked) -> None:
    assert cli("modal")[0] == 2
    assert cli("modal", "fly")[0] == 2
    for command in ("runs", "adopt", "cleanup", "prefetch", "models"):
        code, out, _ = cli("modal", command, "--help")
        assert code == 0
        assert "exit codes" in out
    assert asked.calls == []
