"""What a step needs, against what a real forward pass keeps; and what auto makes of it."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch

from backend.trainer import memory
from backend.trainer.attention import set_attention
from backend.trainer.buckets import Bucket
from backend.trainer.errors import TrainingError
from backend.trainer.flow import image_ids, text_ids
from backend.trainer.loading import BaseModel
from backend.trainer.lora import attach_lora
from backend.trainer.memory import activation_bytes, wants_checkpointing
from backend.trainer.report import Reporter
from backend.trainer.tiny.text import CLIP_WIDTH, T5_WIDTH
from config.schema import NetworkConfig, ProcessConfig
from tests.trainer.conftest import MakeRun

CPU = torch.device("cpu")


def really_kept(tiny_flux: Path, batch: int, tokens: int, texts: int) -> int:
    """Bytes of what autograd keeps in a forward pass of the tiny FLUX, weights left out."""
    model = BaseModel(tiny_flux, "tiny", CPU, torch.float32).transformer()
    attach_lora(model, NetworkConfig(rank=4), torch.Generator().manual_seed(0))
    model.train()
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(
            hidden_states=torch.randn(batch, tokens, 64),
            timestep=torch.rand(batch),
            guidance=torch.ones(batch),
            pooled_projections=torch.randn(batch, CLIP_WIDTH),
            encoder_hidden_states=torch.randn(batch, texts, T5_WIDTH),
            img_ids=image_ids(2, tokens * 2, CPU, torch.float32),
            txt_ids=text_ids(texts, CPU, torch.float32),
            return_dict=False,
        )
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@pytest.mark.parametrize(("batch", "tokens", "texts"), [(1, 48, 32), (2, 96, 20)])
def test_the_estimate_is_what_is_kept(tiny_flux: Path, batch: int, tokens: int, texts: int) -> None:
    config = dict(BaseModel(tiny_flux, "tiny", CPU, torch.float32).transformer().config)
    estimate = activation_bytes(config, 4, tokens, texts, batch, torch.float32)
    assert estimate == pytest.approx(really_kept(tiny_flux, batch, tokens, texts), rel=0.1)


def process(**train: object) -> ProcessConfig:
    return ProcessConfig.model_validate(
        {"datasets": [{"folder_path": "x"}], "model": {"name_or_path": "x"}, "train": train}
    )


def test_auto_checkpoints_where_memory_is_short(tiny_flux: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transformer = BaseModel(tiny_flux, "tiny", CPU, torch.float32).transformer()
    out = io.StringIO()

    def wanted(value: object) -> bool:
        shapes = [(Bucket(64, 64), 1), (Bucket(512, 512), 1)]
        settings = process(gradient_checkpointing=value)
        return wants_checkpointing(transformer, settings, shapes, 32, Reporter(None, out))

    monkeypatch.setattr(memory, "free_memory_here", lambda: 64 << 30)
    assert not wanted("auto")
    monkeypatch.setattr(memory, "free_memory_here", lambda: 1 << 30)
    assert wanted("auto")
    assert "checkpointing is off" in out.getvalue()
    assert "checkpointing is on" in out.getvalue()
    assert wanted(True)
    assert not wanted(False)


def test_a_run_with_auto(make_run: MakeRun) -> None:
    run = make_run(train={"gradient_checkpointing": "auto", "steps": 1})
    assert run.train() == 0


# -- attention ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("flash", "NVIDIA GPU"),
        ("xformers", "NVIDIA GPU"),
        ("sage", "no backward pass"),
        ("_native_cudnn", "gradients are wrong"),
    ],
)
def test_a_backend_that_cannot_be_used_is_replaced(tiny_flux: Path, name: str, why: str) -> None:
    transformer = BaseModel(tiny_flux, "tiny", CPU, torch.float32).transformer()
    warnings: list[tuple[str, str]] = []
    assert set_attention(transformer, name.upper(), lambda *said: warnings.append(said)) == "native"
    ((message, code),) = warnings
    assert why in message
    assert code == "attention_backend"


def test_an_unknown_backend_is_an_error(tiny_flux: Path) -> None:
    transformer = BaseModel(tiny_flux, "tiny", CPU, torch.float32).transformer()
    with pytest.raises(TrainingError, match="native") as caught:
        set_attention(transformer, "fast", lambda *said: None)
    assert caught.value.bad_input


def test_a_run_with_another_backend_learns_the_same(make_run: MakeRun) -> None:
    from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry

    usual, other = make_run("usual"), make_run("other", train={"attention_backend": "_native_math"})
    try:
        assert usual.train() == other.train() == 0
    finally:
        _AttentionBackendRegistry.set_active_backend(AttentionBackendName.NATIVE)
    losses = [[event.loss for event in run.events() if event.TYPE == "step"] for run in (usual, other)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
