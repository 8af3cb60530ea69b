"""One LoRA, three ways to apply it: through peft, fused into the weights, and by kohya's own arithmetic."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import FluxPipeline, FluxTransformer2DModel
from safetensors.torch import load_file

from backend.lora.convert import convert_file
from backend.trainer import flow
from tests.trainer.conftest import MakeRun


@pytest.fixture(scope="module")
def pipeline(tiny_flux: Path) -> FluxPipeline:
    return FluxPipeline.from_pretrained(tiny_flux)


@torch.no_grad()
def predict(transformer: FluxTransformer2DModel) -> torch.Tensor:
    """The velocity for one fixed input."""
    generator = torch.Generator().manual_seed(3)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    config, cpu = transformer.config, torch.device("cpu")
    return transformer(
        hidden_states=flow.pack(draw(1, 16, 12, 8)),
        timestep=torch.tensor([0.4]),
        guidance=torch.tensor([1.0]) if config.guidance_embeds else None,
        pooled_projections=draw(1, config.pooled_projection_dim),
        encoder_hidden_states=draw(1, 32, config.joint_attention_dim),
        img_ids=flow.image_ids(12, 8, cpu, torch.float32),
        txt_ids=flow.text_ids(32, cpu, torch.float32),
        return_dict=False,
    )[0]


def kohya_deltas(path: Path) -> dict[str, torch.Tensor]:
    """``up @ down * alpha / rank`` for each of the BFL layers in a kohya file."""
    tensors = load_file(path)
    deltas = {}
    for key, down in tensors.items():
        module, dot, kind = key.partition(".")
        if dot and kind == "lora_down.weight":
            up, alpha = tensors[f"{module}.lora_up.weight"], tensors[f"{module}.alpha"]
            deltas[module] = (up.double() @ down.double()) * (float(alpha) / down.shape[0])
    return deltas


# The rows of a BFL layer and the diffusers layers that they are, written down by hand.
DOUBLE = {
    "img_attn_qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "txt_attn_qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "img_attn_proj": ("attn.to_out.0",),
    "txt_attn_proj": ("attn.to_add_out",),
    "img_mlp_0": ("ff.net.0.proj",),
    "img_mlp_2": ("ff.net.2",),
    "txt_mlp_0": ("ff_context.net.0.proj",),
    "txt_mlp_2": ("ff_context.net.2",),
    "img_mod_lin": ("norm1.linear",),
    "txt_mod_lin": ("norm1_context.linear",),
}
SINGLE = {
    "linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
    "linear2": ("proj_out",),
    "modulation_lin": ("norm.linear",),
}


def test_peft_fused_and_kohya_agree(
    make_run: MakeRun, pipeline: FluxPipeline, tiny_flux: Path, tmp_path: Path
) -> None:
    run = make_run(save={"dtype": "float32"}, train={"steps": 4})
    assert run.train() == 0
    transformer = pipeline.transformer
    plain = predict(transformer)

    pipeline.load_lora_weights(str(run.final))
    through_peft = predict(transformer)
    pipeline.fuse_lora()
    fused = predict(transformer)
    pipeline.unfuse_lora()
    pipeline.unload_lora_weights()
    assert torch.allclose(predict(transformer), plain, atol=1e-5)  # unfusing rounds

    kohya, notes = convert_file(run.final, "kohya", tmp_path / "kohya.safetensors")
    assert not notes
    by_hand = FluxTransformer2DModel.from_pretrained(tiny_flux / "transformer")
    layers = dict(by_hand.named_modules())
    used = 0
    for module, delta in kohya_deltas(kohya).items():
        kind, _, rest = module.removeprefix("lora_unet_").partition("_blocks_")
        index, _, layer = rest.partition("_")
        names = DOUBLE[layer] if kind == "double" else SINGLE[layer]
        prefix = "transformer_blocks" if kind == "double" else "single_transformer_blocks"
        weights = [layers[f"{prefix}.{index}.{name}"].weight for name in names]
        for weight, part in zip(weights, delta.split([len(w) for w in weights]), strict=True):
            with torch.no_grad():
                weight += part.float()
            used += 1
    assert used == len([key for key in load_file(run.final) if "lora_A" in key])
    with_kohya = predict(by_hand)

    assert (through_peft - plain).abs().max() > 1e-3
    assert torch.allclose(fused, through_peft, atol=1e-4)
    assert torch.allclose(with_kohya, through_peft, atol=1e-4)


@pytest.mark.parametrize("dtype", ["float16", "bf16", "float32"])
def test_to_kohya_and_back_is_the_same_file(make_run: MakeRun, tmp_path: Path, dtype: str) -> None:
    run = make_run(save={"dtype": dtype}, train={"steps": 2})
    assert run.train() == 0
    kohya, _ = convert_file(run.final, "kohya", tmp_path / "kohya.safetensors")
    back, _ = convert_file(kohya, "diffusers", tmp_path / "back.safetensors")
    before, after = load_file(run.final), load_file(back)
    assert before.keys() == after.keys()
    for key, tensor in before.items():
        assert tensor.dtype == after[key].dtype
        assert torch.equal(tensor, after[key]), key
