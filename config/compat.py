"""ai-toolkit keys that this trainer knows and does not act on.

Each section maps a key to what to tell its user: None where nothing needs saying (the key has no
effect on FLUX.1 LoRA training, or its behaviour is always on here), else one sentence. The sentence
is shown only when the key holds something other than its neutral value.
"""

from __future__ import annotations

_SOON = "is not supported yet and has no effect"
_OTHER = "has no effect on FLUX.1 LoRA training"


def _all(sentence: str | None, *keys: str) -> dict[str, str | None]:
    return dict.fromkeys(keys, sentence)


PROCESS: dict[str, str | None] = {
    **_all(None, "performance_log_every", "sqlite_db_path", "name"),
    **_all(_OTHER, "adapter", "embedding", "decorator", "guidance", "slider", "torch_profiler", "do_lorm"),
}

SECTIONS: dict[str, dict[str, str | None]] = {
    "network": {
        **_all(None, "conv", "conv_alpha", "old_lokr_format"),
        "layer_offloading": _SOON,
        **_all(_OTHER, "all_layers", "split_multistage_loras", "lorm_config"),
    },
    "network.network_kwargs": {
        **_all(_OTHER, "full_if_contains", "parameter_threshold"),
    },
    "save": {"save_format": None},
    "datasets[]": {
        # Latents and text embeddings are always cached.
        **_all(None, "type", "cache_latents", "cache_latents_to_disk"),
        **_all(None, "bucket_tolerance", "cache_latents_num_workers", "num_workers", "prefetch_factor"),
        # The web UI writes these for every model; they are for video and control models.
        **_all(None, "num_frames", "shrink_video_to_frames", "do_i2v", "fps", "controls", "do_audio"),
        **_all(
            _SOON,
            "random_scale",
            "scale",
            "square_crop",
            "augments",
            "augmentations",
            "shuffle_augmentations",
            "batch_size",
            "use_short_captions",
            "replacements",
        ),
        **_all(
            _OTHER,
            "load_image_when_caching_latents",
            "standardize_images",
            "extra_values",
            "clip_image_path",
            "clip_image_augmentations",
            "clip_image_shuffle_augmentations",
            "control_path",
            "control_path_1",
            "control_path_2",
            "control_path_3",
            "control_transparent_color",
            "full_size_control_images",
            "inpaint_path",
            "unconditional_path",
            "guidance_type",
            "poi",
            "fast_image_size",
        ),
    },
    "train": {
        **_all(None, "num_train_timesteps", "sdp", "xformers", "switch_boundary_every"),
        **_all(None, "unet_lr", "text_encoder_lr", "refiner_lr", "audio_loss_multiplier"),
        **_all(
            _SOON,
            "do_guidance_loss",
            "guidance_loss_target",
            "inverted_mask_prior",
            "inverted_mask_prior_multiplier",
            "random_noise_shift",
            "force_consistent_noise",
            "optimal_noise_pairing_samples",
        ),
        **_all(
            _OTHER,
            "snr_gamma",
            "min_snr_gamma",
            "learnable_snr_gos",
            "loss_target",
            "next_sample_timesteps",
            "content_or_style_reg",
            "weight_jitter",
            "standardize_latents",
            "adaptive_scaling_factor",
            "do_paramiter_swapping",
            "single_item_batching",
            "short_and_long_captions",
            "short_and_long_captions_encoder_split",
            "prompt_dropout_prob",
            "prompt_saturation_chance",
            "correct_pred_norm",
            "correct_pred_norm_multiplier",
            "do_prior_divergence",
            "train_turbo",
            "show_turbo_outputs",
            "free_u",
            "do_cfg",
            "do_random_cfg",
            "max_cfg_scale",
            "cfg_rescale",
            "negative_prompt",
            "unconditional_prompt",
            "merge_network_on_save",
            "merge_network_on_save_strength",
            "noise_multiplier",
            "random_noise_multiplier",
            "dynamic_noise_offset",
            "target_noise_multiplier",
            "latent_multiplier",
            "noisy_latent_multiplier",
            "img_multiplier",
            "blended_blur_noise",
            "do_signal_correction_noise",
            "do_batch_noise_correction",
            "do_signal_amplification",
            "t0_loss_target",
            "do_fft_loss",
            "max_loss_debug",
            "pred_scaler",
            "match_noise_norm",
            "target_norm_std",
            "do_blank_stabilization",
        ),
    },
    "train.ema_config": _all(_SOON, "use_feedback", "param_multiplier"),
    "model": {
        **_all(None, "dtype", "model_kwargs", "model_paths"),
        **_all("is train.compile here, which is on for NVIDIA GPUs anyway", "compile", "block_compile"),
        **_all(
            _SOON,
            "qtype_te",
            "te_name_or_path",
            "split_model_over_gpus",
            "split_model_other_module_param_count_scale",
            "compile_mode",
            "compile_fullgraph",
            "compile_dynamic",
            "cache_size_limit",
            "layer_offloading",
            "layer_offloading_transformer_percent",
            "layer_offloading_text_encoder_percent",
            "auto_memory",
            "use_flux_cfg",
        ),
        **_all(
            _OTHER,
            "ignore_if_contains",
            "only_if_contains",
            "in_context",
            "unconditional_lora_path",
            "latent_space_version",
            "accuracy_recovery_adapter",
            "vae_device",
            "vae_dtype",
            "te_device",
            "te_dtype",
            "unet_path",
        ),
    },
    "sample": {
        **_all(None, "fps", "num_frames", "do_cfg_norm", "guidance_rescale", "refiner_start_at"),
        **_all(_OTHER, "extra_values", "adapter_conditioning_scale", "ext"),
    },
    "sample.samples[]": {
        **_all(None, "fps", "num_frames"),
        **_all(_OTHER, "ctrl_img", "ctrl_img_1", "ctrl_img_2", "ctrl_img_3", "ctrl_idx"),
    },
    "logging": _all(None, "verbose", "use_ui_logger"),
}
SECTIONS["first_sample"] = SECTIONS["sample"]
SECTIONS["first_sample.samples[]"] = SECTIONS["sample.samples[]"]

# Values that leave a key without effect in ai-toolkit too.
NEUTRAL: dict[str, tuple[object, ...]] = {
    "content_or_style_reg": ("balanced",),
    "scale": (1, 1.0),
    "guidance_loss_target": (3, 3.0),
    "noise_multiplier": (1, 1.0),
    "random_noise_multiplier": (0, 0.0),
    "target_noise_multiplier": (1, 1.0),
    "latent_multiplier": (1, 1.0),
    "noisy_latent_multiplier": (1, 1.0),
    "img_multiplier": (1, 1.0),
    "loss_target": ("noise",),
    "param_multiplier": (1, 1.0),
    "next_sample_timesteps": (8,),
    "max_cfg_scale": (1, 1.0),
    "correct_pred_norm_multiplier": (1, 1.0),
    "compile_dynamic": (True,),
    "compile_mode": ("default",),
    "merge_network_on_save_strength": (1, 1.0),
}

# These matter only when another key switches them on.
SETTINGS_OF: dict[str, str] = {
    "qtype_te": "quantize_te",
    "inverted_mask_prior_multiplier": "inverted_mask_prior",
    "layer_offloading_transformer_percent": "layer_offloading",
    "layer_offloading_text_encoder_percent": "layer_offloading",
    "guidance_loss_target": "do_guidance_loss",
    "compile_mode": "compile",
    "compile_fullgraph": "compile",
    "compile_dynamic": "compile",
    "cache_size_limit": "compile",
    "split_model_other_module_param_count_scale": "split_model_over_gpus",
    "shuffle_augmentations": "augmentations",
    "lorm_config": "lorm",
}

# Common guesses and other trainers' names, by section.
SYNONYMS: dict[str, dict[str, str]] = {
    "": {
        "dataset": "datasets",
        "lora": "network",
        "sampling": "sample",
        "training": "train",
        "seed": "training_seed",
    },
    "train": {
        "learning_rate": "train.lr",
        "max_train_steps": "train.steps",
        "num_steps": "train.steps",
        "total_steps": "train.steps",
        "max_steps": "train.steps",
        "train_batch_size": "train.batch_size",
        "seed": "training_seed",
        "warmup_steps": "train.lr_scheduler_params.num_warmup_steps",
        "lr_warmup_steps": "train.lr_scheduler_params.num_warmup_steps",
        "scheduler": "train.lr_scheduler",
        "mixed_precision": "train.dtype",
        "gradient_clip": "train.max_grad_norm",
        "ema": "train.ema_config",
        "use_ema": "train.ema_config.use_ema",
        "weight_decay": "train.optimizer_params.weight_decay",
        "betas": "train.optimizer_params.betas",
    },
    "sample": {
        "steps": "sample.sample_steps",
        "cfg": "sample.guidance_scale",
        "every": "sample.sample_every",
    },
    "save": {
        "every": "save.save_every",
        "save_steps": "save.save_every",
        "max_saves": "save.max_step_saves_to_keep",
    },
    "network": {
        "dim": "network.linear",
        "r": "network.linear",
        "network_dim": "network.linear",
        "lora_rank": "network.linear",
        "network_alpha": "network.linear_alpha",
        "target_modules": "network.network_kwargs.only_if_contains",
    },
    "datasets[]": {
        "path": "datasets[].folder_path",
        "folder": "datasets[].folder_path",
        "image_dir": "datasets[].folder_path",
        "repeats": "datasets[].num_repeats",
        "caption_extension": "datasets[].caption_ext",
        "caption_dropout": "datasets[].caption_dropout_rate",
        "resolutions": "datasets[].resolution",
    },
    "model": {
        "path": "model.name_or_path",
        "name": "model.name_or_path",
        "pretrained_model_name_or_path": "model.name_or_path",
    },
}
