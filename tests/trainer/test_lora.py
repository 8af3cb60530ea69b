from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from backend.trainer.errors import TrainingError
from backend.trainer.loading import BaseModel
from backend.trainer.lora import attach_lora, select_modules
from backend.trainer.lora_file import LoraFacts, file_metadata, file_tensors, write_lora
from config.schema import NetworkConfig, RunConfig


@pytest.fixture(scope="module")
def flux_dev() -> FluxTransformer2DModel:
    """FLUX.1-dev's transformer with its true configuration, without memory for its weights."""
    with torch.device("meta"):
        return FluxTransformer2DModel(
            in_channels=64,
            num_layers=19,
            num_single_layers=38,
            attention_head_dim=128,
            num_attention_heads=24,
            joint_attention_dim=4096,
            pooled_projection_dim=768,
            guidance_embeds=True,
        )


def network(**settings: Any) -> NetworkConfig:
    return NetworkConfig.model_validate(settings)


def test_flux_has_494_targets(flux_dev: FluxTransformer2DModel) -> None:
    names = select_modules(flux_dev, network())
    assert len(names) == len(set(names)) == 494
    double = [name for name in names if name.startswith("transformer_blocks.3.")]
    assert sorted(name.removeprefix("transformer_blocks.3.") for name in double) == sorted(
        [
            "norm1.linear",
            "norm1_context.linear",
            "attn.to_q",
            "attn.to_k",
            "attn.to_v",
            "attn.add_q_proj",
            "attn.add_k_proj",
            "attn.add_v_proj",
            "attn.to_out.0",
            "attn.to_add_out",
            "ff.net.0.proj",
            "ff.net.2",
            "ff_context.net.0.proj",
            "ff_context.net.2",
        ]
    )
    single = [name for name in names if name.startswith("single_transformer_blocks.7.")]
    assert sorted(name.removeprefix("single_transformer_blocks.7.") for name in single) == sorted(
        ["norm.linear", "proj_mlp", "proj_out", "attn.to_q", "attn.to_k", "attn.to_v"]
    )


def test_selection_by_substrings(flux_dev: FluxTransformer2DModel) -> None:
    def chosen(**kwargs: Any) -> list[str]:
        return select_modules(flux_dev, network(network_kwargs=kwargs))

    only = [
        "transformer.single_transformer_blocks.7.proj_out",
        "transformer.single_transformer_blocks.20.proj_out",
    ]
    assert chosen(only_if_contains=only) == [name.removeprefix("transformer.") for name in only]
    assert chosen(only_if_contains=["blocks$$7$$proj_out"]) == ["single_transformer_blocks.7.proj_out"]
    assert len(chosen(ignore_if_contains=["single_transformer_blocks"])) == 19 * 14
    # ".transformer_blocks" has its dot: it does not match the single blocks.
    assert len(chosen(only_if_contains=[".transformer_blocks"])) == 19 * 14
    assert len(chosen(only_if_contains=["attn"], ignore_if_contains=["single"])) == 19 * 8
    with pytest.raises(TrainingError, match="no layer is left"):
        chosen(only_if_contains=["to_q"], ignore_if_contains=["attn"])


def test_all_linear_layers_on_request(flux_dev: FluxTransformer2DModel) -> None:
    names = select_modules(flux_dev, network(transformer_only=False))
    extra = sorted(set(names) - set(select_modules(flux_dev, network())))
    assert extra == sorted(
        [
            "x_embedder",
            "context_embedder",
            "norm_out.linear",
            "proj_out",
            "time_text_embed.timestep_embedder.linear_1",
            "time_text_embed.timestep_embedder.linear_2",
            "time_text_embed.guidance_embedder.linear_1",
            "time_text_embed.guidance_embedder.linear_2",
            "time_text_embed.text_embedder.linear_1",
            "time_text_embed.text_embedder.linear_2",
        ]
    )


def test_attaching_to_flux_gives_988_tensors_of_the_right_shapes(flux_dev: FluxTransformer2DModel) -> None:
    model = copy.deepcopy(flux_dev)
    lora = attach_lora(model, network(rank=16), torch.Generator())
    assert len(lora.parameters) == 988
    shapes = {name: tuple(p.shape) for name, p in lora.parameters.items()}
    assert shapes["transformer_blocks.0.norm1.linear.lora_B.weight"] == (18432, 16)
    assert shapes["transformer_blocks.0.ff.net.0.proj.lora_B.weight"] == (12288, 16)
    assert shapes["single_transformer_blocks.0.proj_out.lora_A.weight"] == (16, 15360)
    assert all(parameter.dtype is torch.float32 for parameter in lora.parameters.values())


# -- on the tiny model -------------------------------------------------------------------------


def tiny(folder: Path, dtype: torch.dtype = torch.float32) -> FluxTransformer2DModel:
    return BaseModel(folder, "tiny", torch.device("cpu"), dtype).transformer()


def attach(model: FluxTransformer2DModel, **settings: Any) -> Any:
    return attach_lora(model, network(**settings), torch.Generator().manual_seed(0))


def test_the_untrained_adapter_changes_nothing(tiny_flux: Path) -> None:
    plain, adapted = tiny(tiny_flux), tiny(tiny_flux)
    lora = attach(adapted, rank=3)
    assert torch.equal(run(plain), run(adapted))
    a = lora.parameters["transformer_blocks.0.attn.to_q.lora_A.weight"]
    bound = (1 / a.shape[1]) ** 0.5  # Kaiming uniform with a = sqrt 5
    assert a.abs().max() <= bound
    assert a.std().item() == pytest.approx(bound / 3**0.5, rel=0.1)
    assert [name for name, p in adapted.named_parameters() if p.requires_grad and "lora" not in name] == []


def run(model: FluxTransformer2DModel) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    config = model.config

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(model.dtype)

    with torch.no_grad():
        return model(
            hidden_states=draw(1, 4, config.in_channels),
            timestep=torch.tensor([0.5]),
            guidance=torch.tensor([1.0]),
            pooled_projections=draw(1, config.pooled_projection_dim),
            encoder_hidden_states=draw(1, 5, config.joint_attention_dim),
            img_ids=torch.zeros(4, 3),
            txt_ids=torch.zeros(5, 3),
        ).sample.float()


@pytest.mark.parametrize(
    ("settings", "scale"),
    [
        ({"rank": 4, "alpha": 2}, 1.0),  # as ai-toolkit
        ({"rank": 4, "alpha": 2, "respect_alpha": True}, 0.5),
    ],
)
def test_the_saved_tensors_have_the_adapters_effect(
    tiny_flux: Path, settings: dict[str, Any], scale: float
) -> None:
    """W + B A with what is saved, added by hand to a plain model, gives what the adapted one gives."""
    adapted, fused = tiny(tiny_flux), tiny(tiny_flux)
    lora = attach(adapted, **settings)
    assert lora.scale == scale
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in lora.parameters.items():
            if ".lora_B." in name:
                parameter.copy_(0.02 * torch.randn(parameter.shape, generator=generator))
    saved, _ = file_tensors(lora.state(), lora.scale, torch.float32)
    modules = dict(fused.named_modules())
    for key in saved:
        if ".lora_A." in key:
            module = modules[key.removeprefix("transformer.").removesuffix(".lora_A.weight")]
            assert isinstance(module, nn.Linear)
            module.weight.data += saved[key.replace("lora_A", "lora_B")] @ saved[key]
    assert (run(adapted) - run(tiny(tiny_flux))).abs().max() > 1e-3
    assert torch.allclose(run(adapted), run(fused), atol=1e-5)


def test_adapters_compute_in_the_models_format_with_float32_parameters(tiny_flux: Path) -> None:
    model = tiny(tiny_flux, torch.bfloat16)
    lora = attach(model, rank=2)
    seen: set[torch.dtype] = set()
    layer = model.transformer_blocks[0].attn.to_q
    layer.lora_A["default"].register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))
    run(model)
    assert seen == {torch.bfloat16}
    assert {p.dtype for p in lora.parameters.values()} == {torch.float32}


# -- the file ----------------------------------------------------------------------------------


def facts(**process: Any) -> LoraFacts:
    config = RunConfig.model_validate(
        {
            "name": "my run",
            "process": {
                "trigger_word": "zork",
                "datasets": [{"folder_path": "/home/me/secret place", "resolution": [512, 768]}],
                "model": {"name_or_path": "/home/me/models/FLUX.1-dev"},
                **process,
            },
            "meta": {"name": "mine", "version": 2, "tags": ["a"], "token": "hf_" + "a" * 34},
        }
    )
    return LoraFacts(
        config=config, distilled_guidance=True, training_seed=3, buckets={"512x512": 4}, pictures=4
    )


def test_metadata_is_complete_and_private() -> None:
    tensors = {"transformer.a.lora_A.weight": torch.ones(4, 3)}
    metadata = file_metadata(facts(), tensors, step=250, epoch=4)
    assert all(isinstance(value, str) for value in metadata.values())
    assert metadata["format"] == "pt"
    assert metadata["modelspec.architecture"] == "flux-1-dev/lora"
    assert metadata["modelspec.implementation"] == "https://github.com/black-forest-labs/flux"
    assert metadata["modelspec.trigger_phrase"] == "zork"
    assert metadata["ss_base_model_version"] == "flux1"
    assert metadata["ss_sd_model_name"] == "FLUX.1-dev"
    assert json.loads(metadata["ss_tag_frequency"]) == {"1_zork": {"zork": 1}}
    assert metadata["ss_network_dim"] == metadata["ss_network_alpha"] == "4"
    assert (metadata["name"], metadata["version"], json.loads(metadata["tags"])) == ("mine", "2", ["a"])
    training = json.loads(metadata["training_info"])
    assert (training["step"], training["epoch"]) == (250, 4)
    everything = json.dumps(metadata)
    assert "/home/me" not in everything
    assert "hf_aaaa" not in everything


def test_the_datasets_triggers_count() -> None:
    datasets = [{"folder_path": "/a", "trigger_word": "mine"}, {"folder_path": "/b"}, {"folder_path": "/c"}]
    metadata = file_metadata(facts(datasets=datasets), {"a.lora_A.weight": torch.ones(1)}, step=1, epoch=1)
    assert metadata["modelspec.trigger_phrase"] == "mine, zork"
    assert json.loads(metadata["ss_tag_frequency"]) == {"1_mine": {"mine": 1}, "1_zork": {"zork": 1}}


def test_without_a_trigger_there_are_no_tags() -> None:
    metadata = file_metadata(facts(trigger_word=None), {"a.lora_A.weight": torch.ones(1)}, step=1, epoch=1)
    assert "ss_tag_frequency" not in metadata
    assert "modelspec.trigger_phrase" not in metadata


def test_hashes_are_of_the_data(tmp_path: Path) -> None:
    import hashlib

    tensors = {"transformer.a.lora_A.weight": torch.randn(600, 600)}
    path = tmp_path / "x.safetensors"
    write_lora(path, tensors, file_metadata(facts(), tensors, step=1, epoch=1))
    raw = path.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        assert torch.equal(
            file.get_tensor("transformer.a.lora_A.weight"), tensors["transformer.a.lora_A.weight"]
        )
    digest = hashlib.sha256(raw[start:]).hexdigest()
    assert metadata["sshs_model_hash"] == digest
    assert metadata["modelspec.hash_sha256"] == f"0x{digest}"
    # kohya's old hash: a slice of the file as it would be with its ss_ keys alone.
    kept = {key: value for key, value in metadata.items() if key.startswith("ss_")}
    save_file(tensors, path, kept)
    legacy = hashlib.sha256(path.read_bytes()[0x100000:0x110000]).hexdigest()[:8]
    assert metadata["sshs_legacy_hash"] == legacy


def test_values_too_large_for_float16_are_saved_in_bfloat16() -> None:
    weights = {"a.lora_A.weight": torch.tensor([1.0]), "a.lora_B.weight": torch.tensor([70_000.0])}
    tensors, dtype = file_tensors(weights, 1.0, torch.float16)
    assert dtype is torch.bfloat16
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    assert file_tensors(weights, 0.5, torch.float16)[1] is torch.float16  # the scale counts


def test_broken_weights_are_not_saved() -> None:
    with pytest.raises(TrainingError, match="finite") as caught:
        file_tensors({"a.lora_B.weight": torch.tensor([1.0, float("nan")])}, 1.0, torch.float16)
    assert caught.value.code == "nan_loss"
