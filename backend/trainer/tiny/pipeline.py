"""Puts the tiny FLUX's parts together into a diffusers folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from backend.demo.pictures import EMBLEMS, draw
from backend.files import write_json
from backend.trainer.tiny.text import build_clip, build_t5
from backend.trainer.tiny.transformer import build_transformer
from backend.trainer.tiny.vae import DOWNSAMPLING, build_vae

if TYPE_CHECKING:
    from PIL import Image

_INDEX: dict[str, object] = {
    "_class_name": "FluxPipeline",
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "text_encoder_2": ["transformers", "T5EncoderModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "tokenizer_2": ["transformers", "T5TokenizerFast"],
    "transformer": ["diffusers", "FluxTransformer2DModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def save_pipeline(folder: Path, *, seed: int, guidance_embeds: bool) -> None:
    """Write a complete FLUX.1 pipeline into ``folder``, which exists."""
    from diffusers import FlowMatchEulerDiscreteScheduler, __version__

    captions = [emblem.caption for emblem in EMBLEMS]
    pictures = [_half_size(draw(emblem)) for emblem in EMBLEMS]
    scheduler = FlowMatchEulerDiscreteScheduler(
        num_train_timesteps=1000,
        shift=3.0,
        use_dynamic_shifting=True,
        base_shift=0.5,
        max_shift=1.15,
        base_image_seq_len=256,
        max_image_seq_len=4096,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tokenizer, text_encoder = build_clip(captions)
        tokenizer_2, text_encoder_2 = build_t5(captions)
        vae = build_vae(pictures)
        transformer = build_transformer(guidance_embeds=guidance_embeds)
    # What FluxPipeline.save_pretrained does, without the seconds that importing it takes.
    scheduler.save_pretrained(folder / "scheduler")
    tokenizer.save_pretrained(folder / "tokenizer")
    tokenizer_2.save_pretrained(folder / "tokenizer_2")
    text_encoder.save_pretrained(folder / "text_encoder")
    text_encoder_2.save_pretrained(folder / "text_encoder_2")
    vae.save_pretrained(folder / "vae")
    transformer.save_pretrained(folder / "transformer")
    write_json(folder / "model_index.json", {**_INDEX, "_diffusers_version": __version__})


def _half_size(picture: Image.Image) -> Tensor:
    """The picture at half its size as a tensor [3, H, W] in -1..1; sides divisible by 8."""
    sides = [side // 2 // DOWNSAMPLING * DOWNSAMPLING for side in picture.size]
    pixels = np.array(picture.resize((sides[0], sides[1])), dtype=np.float32)
    return torch.from_numpy(pixels).permute(2, 0, 1) / 127.5 - 1.0
