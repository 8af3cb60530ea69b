"""Attention kernels and the choice among them, with what a CPU has of them."""

from __future__ import annotations

import functools
import sys
import types
from typing import Any

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from backend.trainer import flash3
from backend.trainer.attention_kernels import KERNELS, kernel_name, math, native
from backend.trainer.attention_trials import Sequences, best_kernel, sequences_of, told, try_kernels
from backend.trainer.buckets import Bucket

CPU = torch.device("cpu")
TINY = [Sequences(2, 24, 0.25), Sequences(1, 16, 0.75)]

trials_of = functools.partial(try_kernels, CPU, torch.float32, heads=3, width=8, shapes=TINY)


def wrong(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return v + 0 * (q + k)


def wrong_gradient(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return native(q, k, v) + (q * 0.1 - (q * 0.1).detach())


def broken(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    raise RuntimeError("not on this device\nmore")


def broken_when_long(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return native(q, k, v) if q.shape[2] < 20 else broken(q, k, v)


def test_a_kernel_that_fails_or_is_wrong_is_out_and_the_reason_is_told() -> None:
    kernels = {
        "native": native,
        "wrong": wrong,
        "gradient": wrong_gradient,
        "broken": broken,
        "long": broken_when_long,
    }
    trials = trials_of(kernels=kernels)
    assert trials[0].name == "native"
    assert trials[0].seconds is not None
    assert len(trials[0].each) == 2
    assert trials[0].seconds == pytest.approx(0.25 * trials[0].each[0] + 0.75 * trials[0].each[1])
    why = {trial.name: trial.why for trial in trials}
    assert "wrong by" in why["wrong"]
    assert "at 24 tokens x 2" in why["wrong"]
    assert "wrong by" in why["gradient"]
    assert why["broken"] == why["long"] == "not on this device"
    line = told(trials, TINY)
    assert line.startswith("attention, forward and backward at 24 tokens x 2 / 16 tokens: native ")
    assert "broken: not on this device" in line


def test_where_memory_is_short_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("backend.trainer.attention_trials._expected", full)
    trials = trials_of(kernels={"native": native, "math": math})
    assert [trial.seconds for trial in trials] == [None, None]
    assert {trial.why for trial in trials} == {"there is no memory to compare it at 24 tokens x 2"}


def test_the_fastest_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {"slow": 3.0, "fast": 1.0, "middle": 2.0}
    running: list[str] = []

    def named(name: str) -> Any:
        def kernel(*qkv: torch.Tensor) -> torch.Tensor:
            running.append(name)
            return native(*qkv)

        return kernel

    def clock(work: Any, device: torch.device) -> float:
        work()
        return seconds[running[-1]]

    monkeypatch.setattr("backend.trainer.attention_trials._time", clock)
    trials = trials_of(kernels={name: named(name) for name in seconds})
    assert [trial.name for trial in trials] == ["fast", "middle", "slow"]


def test_each_kernel_of_a_cpu_is_right_and_the_others_say_why_not() -> None:
    trials = {trial.name: trial for trial in trials_of()}
    assert trials.keys() == KERNELS.keys() >= {"flash_3", "cudnn", "flash", "efficient", "native", "math"}
    assert trials["native"].seconds
    assert trials["math"].seconds
    assert trials["flash_3"].why == "its package flash_attn_interface is not installed"
    for name in ("cudnn", "flash", "efficient"):
        assert trials[name].seconds is None
        assert trials[name].why
    assert best_kernel(CPU, torch.float32) == "native"


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        ("_flash_3", "flash_3"),
        ("_flash_3_hub", "flash_3"),
        ("_native_cudnn", "cudnn"),
        ("Flash", "flash"),
        ("_native_efficient", "efficient"),
        ("native", "native"),
        ("_native_math", "math"),
        ("auto", "auto"),
        ("sage", None),
    ],
)
def test_names_are_diffusers_or_ours(wanted: str, name: str | None) -> None:
    assert kernel_name(wanted) == name


def test_the_shapes_that_cost_most_are_measured() -> None:
    large, middle, small, rare = Bucket(1024, 1024), Bucket(768, 768), Bucket(512, 512), Bucket(256, 256)
    shapes = {(large, 1): 20, (middle, 1): 20, (small, 3): 7, (rare, 1): 1}
    assert sequences_of(shapes, 512) == [
        Sequences(1, 4608, 20 / 47),
        Sequences(1, 2816, 20 / 47),
        Sequences(3, 1536, 7 / 47),
    ]


# -- flash 3, by a pretended package ---------------------------------------------------------------


def _attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return math(*(tensor.transpose(1, 2) for tensor in (q, k, v))).transpose(1, 2)


def new_package() -> types.ModuleType:
    """As the package is now: operators of torch, all but the tensors optional."""
    module = types.ModuleType(flash3.PACKAGE)

    def _flash_attn_forward(
        q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, qv: Any = None, softmax_scale: Any = None,
        causal: bool = False, num_splits: int = 1,
    ) -> Any:  # fmt: skip
        assert softmax_scale == q.shape[-1] ** -0.5
        assert not causal
        assert num_splits == 1
        return _attend(q, k, v), q.new_zeros(q.shape[0], q.shape[2], q.shape[1]), None, None

    def _flash_attn_backward(
        dout: Any, q: Any, k: Any, v: Any, out: Any, lse: Any, cu_seqlens_q: Any = None, dq: Any = None,
        dk: Any = None, dv: Any = None, softmax_scale: Any = None, is_causal: bool = False,
    ) -> Any:  # fmt: skip
        assert softmax_scale
        # Inside an operator there is no autograd: by hand.
        q, k, v, dout = (tensor.transpose(1, 2) for tensor in (q, k, v, dout))
        weights = torch.softmax(q @ k.transpose(-1, -2) * softmax_scale, dim=-1)
        dweights = dout @ v.transpose(-1, -2)
        dscores = weights * (dweights - (weights * dweights).sum(-1, keepdim=True)) * softmax_scale
        found = dscores @ k, dscores.transpose(-1, -2) @ q, weights.transpose(-1, -2) @ dout
        for place, value in zip((dq, dk, dv), found, strict=True):
            place.copy_(value.transpose(1, 2))
        return lse

    module._flash_attn_forward, module._flash_attn_backward = (  # type: ignore[attr-defined]
        _flash_attn_forward,
        _flash_attn_backward,
    )
    return module


def old_package() -> types.ModuleType:
    """As it was: much that is required and may be None, and other names."""
    module, new = types.ModuleType(flash3.PACKAGE), new_package()

    def _flash_attn_forward(
        q: Any, k: Any, v: Any, k_new: Any, qv: Any, page_table: Any, softmax_scale: Any, causal: Any,
        window_size: Any = (-1, -1),
    ) -> Any:  # fmt: skip
        assert k_new is qv is page_table is None
        return new._flash_attn_forward(q, k, v, softmax_scale=softmax_scale, causal=causal)

    def _flash_attn_backward(
        dout: Any, q: Any, k: Any, v: Any, out: Any, lse: Any, max_seqlen_q: Any, dq: Any, dk: Any, dv: Any,
        softmax_scale: Any, causal: Any, window_size: Any = (-1, -1),
    ) -> Any:  # fmt: skip
        assert max_seqlen_q is None
        assert causal is False
        new._flash_attn_backward(dout, q, k, v, out, lse, None, dq, dk, dv, softmax_scale)
        return dq, dk, dv, lse

    module._flash_attn_forward, module._flash_attn_backward = (  # type: ignore[attr-defined]
        _flash_attn_forward,
        _flash_attn_backward,
    )
    return module


@pytest.mark.parametrize("package", [new_package, old_package])
def test_flash_3_is_used_where_its_package_is(package: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, flash3.PACKAGE, package())
    flash3._interface.cache_clear()
    try:
        trials = trials_of(kernels={"flash_3": KERNELS["flash_3"]})
        assert trials[0].seconds is not None, trials[0].why
        # In a compiled function it is one graph, forward and backward.
        function = torch.compile(KERNELS["flash_3"], backend="aot_eager", fullgraph=True)
        inputs = [torch.randn(1, 2, 16, 8).requires_grad_() for _ in range(3)]
        found = torch.autograd.grad(function(*inputs).sum(), inputs)
        expected = torch.autograd.grad(scaled_dot_product_attention(*inputs).sum(), inputs)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    finally:
        flash3._interface.cache_clear()
