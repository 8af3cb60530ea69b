from __future__ import annotations

from typing import Any

import pytest
import torch

from backend.trainer.bench.dry import check_shapes
from backend.trainer.bench.kernels import kind_of
from backend.trainer.bench.measure import measure
from backend.trainer.bench.rig import build_rig
from backend.trainer.bench.shapes import FLUX_DEV, random_transformer, small, step_flops
from benchmarks.plain_loop import PlainLoop

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
