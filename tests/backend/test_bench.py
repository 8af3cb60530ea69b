from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from backend.bench import Variant, keep, measured, projection, run, variants


def record(resolution: int, seconds: float, **more: Any) -> dict[str, Any]:
    return {
        "gpu": "H100",
        "resolution": resolution,
        "batch": 1,
        "compute": "bf16",
        "checkpointing": "off",
        "seconds_per_step": seconds,
        "peak_bytes": 1,
        "torch": "2",
        "date": "2026-11-27",
    } | more


def test_results_are_kept_and_replace_their_like(tmp_path: Path) -> None:
    file = tmp_path / "home" / "bench.json"
    assert measured(file) == []
    failed = record(1024, 0.0, error="out of memory")
    assert keep([record(512, 0.1), record(768, 0.2, tokens_per_second=3), failed], file) == 2
    keep([record(512, 0.05), record(512, 0.04, compute="fp8")], file)
    kept = [(item["resolution"], item["compute"], item["seconds_per_step"]) for item in measured(file)]
    assert kept == [(768, "bf16", 0.2), (512, "bf16", 0.05), (512, "fp8", 0.04)]
    assert "tokens_per_second" not in measured(file)[0]


def test_a_damaged_file_counts_as_nothing(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    file.write_text("{", encoding="utf-8")
    assert measured(file) == []


def test_the_tutorials_job_is_projected_from_the_mean_of_its_sizes() -> None:
    results = [record(512, 0.1), record(768, 0.2)]
    assert projection(results, 4.0) is None
    job = projection([*results, record(1024, 0.3)], 4.0)
    assert job is not None
    assert job["seconds_per_step"] == pytest.approx(0.2)
    assert job["minutes"] == pytest.approx(10)
    assert job["dollars"] == pytest.approx(4 / 6)


def test_variants_are_all_combinations() -> None:
    base = Variant(sizes=((512, 512),))
    made = variants(
        base, compute=["bf16", "fp8"], checkpointing=["off", "on"], compiled=[True], attention=["auto"]
    )
    assert [(v.compute, v.checkpointing) for v in made] == [
        ("bf16", "off"), ("fp8", "off"), ("bf16", "on"), ("fp8", "on"),
    ]  # fmt: skip


def measure(monkeypatch: pytest.MonkeyPatch, code: str, timeout: float | None = None) -> Any:
    monkeypatch.setattr(Variant, "command", [sys.executable, "-c", code])
    results: list[dict[str, Any]] = []
    lines: list[str] = []
    run(Variant(sizes=((512, 512),)), results.append, lines.append, timeout)
    return results, lines


def test_a_process_that_dies_is_a_result_and_keeps_those_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    code = """print('RESULT {"resolution": 512}'); print('boom'); raise SystemExit(7)"""
    results, lines = measure(monkeypatch, code)
    assert results[0] == {"resolution": 512}
    assert results[1]["error"] == "the process ended with 7: boom"
    assert lines == ["boom"]


def test_a_process_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    results, _ = measure(monkeypatch, "import time; time.sleep(600)", timeout=0.5)
    assert "the process ended with" in results[0]["error"]
