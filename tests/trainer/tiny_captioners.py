"""Captioning models of a few thousand weights, with processors and tokenizers of their own; no download."""

from __future__ import annotations

from pathlib import Path

import torch


def _tokenizer(special: list[str], **named: object):
    """Bytes and a few special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({token: at for at, token in enumerate([*special, *alphabet])}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named)


def make_florence(folder: Path) -> Path:
    """A Florence-2 that sees 64 x 64 pixels."""
    from transformers import (
        BartConfig,
        CLIPImageProcessorPil,
        Florence2Config,
        Florence2ForConditionalGeneration,
        Florence2Processor,
    )
    from transformers.models.florence2.configuration_florence2 import Florence2VisionConfig

    tokenizer = _tokenizer(
        ["<s>", "<pad>", "</s>", "<unk>", "<image>"],
        bos_token="<s>", pad_token="<pad>", eos_token="</s>", unk_token="<unk>",
        extra_special_tokens={"image_token": "<image>"},
    )  # fmt: skip
    side = {"height": 64, "width": 64}
    images = CLIPImageProcessorPil(size=side, crop_size=side, do_center_crop=False)
    images.image_seq_length = 65  # 8 x 8 patches and their mean
    ends = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
    vision = Florence2VisionConfig(
        depths=(1, 1), patch_size=(7, 3), patch_stride=(4, 2), patch_padding=(3, 1),
        patch_prenorm=(False, True), embed_dim=(8, 16), num_heads=(2, 2), num_groups=(2, 2),
        window_size=4, projection_dim=16, drop_path_rate=0.0,
    )  # fmt: skip
    text = BartConfig(
        vocab_size=len(tokenizer), d_model=16, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16,
        max_position_embeddings=512, decoder_start_token_id=2, **ends,
    )  # fmt: skip
    torch.manual_seed(0)
    config = Florence2Config(
        text_config=text.to_dict(), vision_config=vision.to_dict(), image_token_id=4, **ends
    )
    model = Florence2ForConditionalGeneration(config)
    _say(model, tokenizer, model.get_output_embeddings())
    model.save_pretrained(folder)
    Florence2Processor(images, tokenizer).save_pretrained(folder)
    return folder


def make_qwen(folder: Path) -> Path:
    """A Qwen2.5-VL with patches of 4 x 4 pixels."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2VLImageProcessorPil

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    special += ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    tokenizer = _tokenizer(
        special, pad_token="<|endoftext|>", eos_token="<|im_end|>", additional_special_tokens=special[3:]
    )
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for c in m.content %}{% if c.type == 'image' %}"
        "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ c.text }}{% endif %}{% endfor %}"
        "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
            "num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 1024,
            "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]},
            "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 2,
        },
        vision_config={
            "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "patch_size": 4,
            "spatial_merge_size": 2, "temporal_patch_size": 2, "out_hidden_size": 16, "window_size": 16,
            "fullatt_block_indexes": [0], "in_channels": 3,
        },
        image_token_id=5, video_token_id=6, vision_start_token_id=3, vision_end_token_id=4,
    )  # fmt: skip
    torch.manual_seed(0)
    model = Qwen2_5_VLForConditionalGeneration(config)
    _say(model, tokenizer, model.get_output_embeddings())
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    Qwen2VLImageProcessorPil(
        patch_size=4, merge_size=2, temporal_patch_size=2, min_pixels=64, max_pixels=1024
    ).save_pretrained(folder)
    return folder


def _say(model, tokenizer, head) -> None:
    """Keep untrained weights from special tokens and half characters: only letters can be said."""
    letters = [tokenizer.convert_tokens_to_ids(letter) for letter in "abcdefghijklmnopqrstuvwxyz"]
    model.generation_config.suppress_tokens = sorted(set(range(head.out_features)) - set(letters))
    model.generation_config.forced_eos_token_id = None
