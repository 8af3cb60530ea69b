from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch._C._autograd import DeviceType

from backend.trainer.bench.dry import check_shapes
from backend.trainer.bench.kernels import kind_of, profile_step
from backend.trainer.bench.measure import measure
from backend.trainer.bench.rig import build_rig
from backend.trainer.bench.shapes import FLUX_DEV, random_transformer, small, step_flops
from backend.trainer.bench.waits import STEP, told, waits_of
from benchmarks.plain_loop import PlainLoop
from benchmarks.side_by_side import _turns

OPTIONS: dict[str, Any] = {
    "sizes": [(64, 64), (64, 32)],
    "engine": "modules",
    "compiled": False,
    "compute": "bf16",
    "checkpointing": "off",
    "attention": "native",
    "rank": 4,
    "batch": 1,
    "text_tokens": 8,
    "steps": 2,
    "profile": "",
}


def test_the_arithmetic_of_flux() -> None:
    # By hand (spec, section 3.2): 6.45e9 weights a token, forward and for the input's gradient.
    assert step_flops(FLUX_DEV, 1024) == pytest.approx(45.4e12, rel=0.01)
    assert step_flops(FLUX_DEV, 4096) == pytest.approx(171e12, rel=0.01)
    assert step_flops(FLUX_DEV, 1024, batch=2) == 2 * step_flops(FLUX_DEV, 1024)


def test_the_dry_run_sees_every_shape() -> None:
    first, *sizes = check_shapes([(64, 64), (96, 64)], small(64, 1, 1), rank=4)
    assert "trained in 20 layers" in first
    assert [line.partition(":")[0] for line in sizes] == ["64x64", "96x64"]


def test_random_weights_keep_activations_in_range() -> None:
    model = random_transformer(small(64, 1, 2), torch.device("cpu"), torch.float32)
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert float(model.transformer_blocks[0].attn.to_q.weight.std()) == pytest.approx(64**-0.5, rel=0.1)


@pytest.mark.parametrize("engine", ["modules", "plain", "fast"])
def test_each_engine_is_measured_at_each_size(engine: str) -> None:
    said: list[dict[str, Any]] = []
    build: Any = PlainLoop if engine == "plain" else build_rig
    options = OPTIONS | {"engine": engine}
    measure(options, small(32, 1, 1), torch.device("cpu"), build, said.append)
    assert [item["resolution"] for item in said] == [64, "64x32"]
    for item in said:
        assert "error" not in item
        assert item["seconds_per_step"] > 0
        assert item["tokens_per_second"] > 0
        assert item["steps"] == 2


def test_a_size_that_fails_does_not_hide_the_next() -> None:
    class Broken:
        facts: dict[str, Any] = {}  # noqa: RUF012

        def train(self, done: int, width: int, height: int) -> None:
            if height == 64:
                raise RuntimeError("no room\nmore")

    said: list[dict[str, Any]] = []
    measure(OPTIONS, small(32, 1, 1), torch.device("cpu"), lambda *_: Broken(), said.append)
    assert said[0]["error"] == "RuntimeError: no room"
    assert "error" not in said[1]


@pytest.mark.parametrize(
    ("kernel", "kind"),
    [
        ("flash_fwd_kernel", "attention"),
        ("cudnn_generated_fort_native_sdpa_sm90_flash_bprop", "attention"),
        ("nvjet_tst_128x256_64x4_2x1_v_bz_coopA_NTT", "gemm"),
        ("multi_tensor_apply_kernel<FusedAdamMathFunctor>", "optimizer"),
        ("triton_poi_fused_add_mul_0", "elementwise"),
    ],
)
def test_kernels_are_told_apart_by_name(kernel: str, kind: str) -> None:
    assert kind_of(kernel) == kind


# -- where the host waits --------------------------------------------------------------------------


def profiled(tmp_path: Path, work: Callable[[], object], steps: int = 2) -> dict[str, float]:
    found = profile_step(work, torch.device("cpu"), tmp_path / "p.txt", steps)
    waits: dict[str, float] = found["waits"]
    assert told(waits) in (tmp_path / "p.txt").read_text(encoding="utf-8")
    return waits


def test_reading_a_number_in_a_step_is_found(tmp_path: Path) -> None:
    numbers = torch.randn(4)
    waits = profiled(tmp_path, lambda: numbers.sum().item())
    assert waits == {"aten::item": 1.0, "aten::_local_scalar_dense < aten::item": 1.0}
    assert "aten::item 1" in told(waits)
    assert profiled(tmp_path, lambda: numbers.sum()) == {}
    assert told({}) == "the host waits nowhere in a step"


def test_the_trainers_step_waits_nowhere_and_the_plain_loop_does(tmp_path: Path) -> None:
    config, device = small(32, 1, 1), torch.device("cpu")
    ours = build_rig(OPTIONS | {"engine": "fast"}, config, device)
    plain = PlainLoop(OPTIONS, config, device)
    mine = profiled(tmp_path, lambda: ours.train(0, 64, 64))
    # On a CPU alone AdamW's fused kernel reads its own count of steps, which there is no device to wait for.
    assert all("aten::_fused_adamw_" in name for name in mine)
    theirs = profiled(tmp_path, lambda: plain.train(0, 64, 64))
    assert any("adamw" not in name for name in theirs)


class Traced:
    """What the profiler tells of a GPU, which there is none of here."""

    def __init__(self, name: str, at: float, *, gpu: bool = False, parent: Traced | None = None) -> None:
        self.name, self.cpu_parent = name, parent
        self.device_type = DeviceType.CUDA if gpu else DeviceType.CPU
        self.time_range = SimpleNamespace(start=at, end=at + 1)


def test_waits_of_a_gpu_are_counted_inside_steps_only() -> None:
    steps = [Traced(STEP, 0.0), Traced(STEP, 100.0)]
    for step in steps:
        step.time_range.end = step.time_range.start + 50
    copy = Traced("aten::copy_", 10.0, parent=steps[0])
    events = [
        *steps,
        Traced(STEP, 20.0, gpu=True),
        Traced("cudaStreamSynchronize", 10.0, parent=copy),
        Traced("cudaMemcpyAsync", 12.0, parent=copy),
        Traced("cudaLaunchKernel", 14.0),
        Traced("cudaDeviceSynchronize", 120.0),
        Traced("cudaDeviceSynchronize", 160.0),  # the profiler's caller
        Traced("Memcpy DtoH (Device -> Pageable)", 170.0, gpu=True),
        Traced("Memcpy DtoH (Device -> Pinned)", 11.0, gpu=True),
    ]
    assert waits_of(events, 2) == {
        "Memcpy DtoH (Device -> Pageable)": 0.5,
        "cudaDeviceSynchronize": 0.5,
        "cudaStreamSynchronize < aten::copy_": 0.5,
    }
    with pytest.raises(ValueError, match="no step"):
        waits_of(events[3:], 2)


# -- side by side ----------------------------------------------------------------------------------


class TakesTurns:
    """A trainer whose steps take as long as a list says, by turn."""

    def __init__(self, name: str, seconds: list[float], turns: list[tuple[str, int]]) -> None:
        self.name, self.seconds, self.turns = name, seconds, turns
        self.taken = 0

    def begin(self, steps: int) -> None:
        pass

    def end(self) -> dict[str, Any]:
        return {"seconds": [9.0], "memory": 0}

    def train(self, steps: int) -> dict[str, Any]:
        self.turns.append((self.name, steps))
        self.taken += 1
        return {"seconds": [self.seconds[self.taken - 1]] * steps, "memory": self.taken}


def test_turns_alternate_and_the_ratio_is_the_pairs_median() -> None:
    turns: list[tuple[str, int]] = []
    # A moment's load makes the third and fourth pair slow, in both: ratios are 2, 2, 1, 3, 2, 2.5 and 2.
    plain = [0.1, 0.1, 0.1, 0.4, 0.6, 0.1, 0.125, 0.1]
    fast = [0.05, 0.05, 0.05, 0.4, 0.2, 0.05, 0.05, 0.05]
    runners: Any = {
        name: TakesTurns(name, times, turns) for name, times in (("plain", plain), ("fast", fast))
    }
    row = _turns(runners, 0.0)
    assert row["ratio"] == pytest.approx(2.0)
    assert row["turns"] == 7
    assert turns[:2] == [("plain", 2), ("fast", 2)]  # how long a step takes
    assert [steps for _, steps in turns[2:]] == [2] * 14  # a quarter of a second, as whole steps
    assert [name for name, _ in turns[2:6]] == ["plain", "fast", "fast", "plain"]
    assert (row["plain_bytes"], row["fast_bytes"]) == (8, 8)
