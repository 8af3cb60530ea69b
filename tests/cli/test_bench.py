from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Output


@pytest.mark.waits
def test_a_trial_on_the_cpu_measures_and_keeps_nothing(
    cli: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLUXLORA_HOME", str(tmp_path / "home"))
    code, out, _ = cli("bench", "--small", "--sizes", "64", "--steps", "2", "--json")
    (result,) = json.loads(out)
    assert code == 0
    assert result["resolution"] == 64
    assert result["seconds_per_step"] > 0
    assert result["peak_bytes"] > 0
    assert not (tmp_path / "home" / "bench.json").exists()


def test_what_cannot_be_measured_is_said(
    cli: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLUXLORA_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("backend.bench.Variant.command", [sys.executable, "-c", "raise SystemExit(3)"])
    code, out, _ = cli("bench", "--sizes", "512")
    assert code == 1
    assert "failed: the process ended with 3" in out
    assert not (tmp_path / "home" / "bench.json").exists()
