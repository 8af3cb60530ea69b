"""Why an option of SimpleTuner has no key here."""

from __future__ import annotations

from collections.abc import Mapping

_SNR = "signal-to-noise weights belong to older diffusion models, FLUX.1 is a flow-matching one"
_NOISE = "this noise is not made here"
_OFFLOAD = "nothing is moved to the CPU while training; model.quantize saves more memory"
_EVAL = "a validation loss is what train.validation_split gives"
_CFG = "FLUX.1 samples with its own guidance, without a negative prompt"

NO_EQUAL: Mapping[str, tuple[str, str]] = {
    "snr_gamma": ("train", _SNR),
    "use_soft_min_snr": ("train", _SNR),
    "soft_min_snr_sigma_data": ("train", _SNR),
    "snr_weight": ("train", _SNR),
    "rescale_betas_zero_snr": ("train", _SNR),
    "huber_c": ("train", "pseudo_huber's c is 0.01"),
    "huber_schedule": ("train", "pseudo_huber's c is 0.01"),
    "input_perturbation": ("train", _NOISE),
    "input_perturbation_steps": ("train", _NOISE),
    "noise_offset": ("train", "SimpleTuner uses it only with offset_noise"),
    "noise_offset_probability": ("train", "the offset is added always"),
    "timestep_bias_strategy": ("train", "see content_or_style, min_denoising_steps and max_denoising_steps"),
    "timestep_bias_portion": ("train", "see content_or_style"),
    "lr_power": ("train", "a polynomial falls in a straight line here"),
    "lr_end": ("train", "only cosine has a lowest rate here"),
    "lr_scale": ("train", "write the learning rate that is meant"),
    "lr_scale_sqrt": ("train", "write the learning rate that is meant"),
    "ema_update_interval": ("train", "the average is updated at every step"),
    "gradient_checkpointing_interval": ("train", "every block is recomputed"),
    "gradient_precision": ("train", "the LoRA's gradients are float32"),
    "optimizer_release_gradients": ("train", "gradients are averaged and clipped before the update"),
    "fuse_optimizer": ("train", "gradients are averaged and clipped before the update"),
    "layer_freeze_strategy": ("network", "see network_kwargs"),
    "lora_init_type": ("network", "A is drawn, B starts at zero"),
    "lora_initialisation_style": ("network", "A is drawn, B starts at zero"),
    "peft_lora_mode": ("network", "adapters are plain LoRAs"),
    "peft_lora_target_modules": ("network", "see network_kwargs.only_if_contains"),
    "flux_attention_masked_training": ("model", "attention sees all 512 text tokens, as FLUX.1 was trained"),
    "fuse_qkv_projections": ("model", "q, k and v stay apart"),
    "fused_qkv_projections": ("model", "q, k and v stay apart"),
    "enable_group_offload": ("model", _OFFLOAD),
    "ramtorch": ("model", _OFFLOAD),
    "musubi_blocks_to_swap": ("model", _OFFLOAD),
    "attention_mechanism": ("model", "see train.attention_backend, such as flash or _flash_3"),
    "tread_config": ("train", "tokens are not left out"),
    "distillation_method": ("train", "a LoRA is trained on pictures only"),
    "masked_loss_probability": ("datasets", "a mask is used always"),
    "data_backend_sampling": ("datasets", "datasets are mixed by their sizes and num_repeats"),
    "tokenizer_max_length": ("model", "T5 always reads 512 tokens"),
    "validation_negative_prompt": ("sample", _CFG),
    "validation_guidance_real": ("sample", _CFG),
    "validation_guidance_rescale": ("sample", _CFG),
    "validation_no_cfg_until_timestep": ("sample", _CFG),
    "validation_prompt_library": ("sample", "SimpleTuner's own prompts are not here; add prompts of yours"),
    "validation_randomize": ("sample", "use seed: -1"),
    "num_validation_images": ("sample", "list a prompt several times and set walk_seed"),
    "evaluation_type": ("train", _EVAL),
    "eval_steps_interval": ("train", _EVAL),
    "eval_epoch_interval": ("train", _EVAL),
    "num_eval_images": ("train", _EVAL),
    "eval_timesteps": ("train", _EVAL),
    "eval_dataset_id": ("train", _EVAL),
    "checkpointing_rolling_steps": ("save", "a run that is stopped saves its state by itself"),
    "checkpoints_rolling_total_limit": ("save", "a run that is stopped saves its state by itself"),
    "push_checkpoints_to_hub": ("save", "the finished LoRA is uploaded"),
    "webhook_config": ("logging", "there are no webhooks"),
    "validation_torch_compile": ("sample", "blocks are compiled where that is possible (train.compile)"),
    "dynamo_mode": ("train", "blocks are compiled where that is possible (train.compile)"),
    "text_encoder_lr": ("train", "text encoders are not trained"),
}

QUIET: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "vae_batch_size", "vae_cache_ondemand", "vae_cache_scan_behaviour", "vae_enable_slicing",
            "cache_dir", "vae_enable_tiling", "cache_dir_vae", "cache_dir_text", "compress_disk_cache",
            "keep_vae_loaded", "write_batch_size", "read_batch_size", "image_processing_batch_size",
            "preserve_data_backend_cache", "override_dataset_config", "skip_file_discovery",
            "fully_unload_text_encoder", "text_encoder_limit", "vae_dtype", "text_cache_ondemand",
            "text_encoder_batch_size",
        ),
        "latents and text embeddings are always cached, under a key of their content",
    ),
    **dict.fromkeys(
        (
            "quantize_via", "offload_during_startup", "base_model_default_dtype", "allow_tf32",
            "disable_tf32", "set_grads_to_none", "dataloader_prefetch", "dataloader_prefetch_qlen",
            "max_workers", "torch_num_threads", "enable_multiprocessing", "ema_device", "ema_cpu_only",
            "ema_foreach_disable", "ema_validation", "aspect_bucket_rounding", "aspect_bucket_alignment",
            "aspect_bucket_worker_count", "aspect_bucket_disable_rebuild", "disable_bucket_pruning",
            "resume_from_checkpoint", "ignore_final_epochs", "seed_for_each_device",
            "validation_disable_unconditional", "validation_seed_source",
            "inference_scheduler_timestep_spacing", "training_scheduler_timestep_spacing",
            "disable_segmented_timestep_sampling", "checkpointing_use_tempdir", "num_processes",
            "num_machines", "ignore_missing_files", "delete_unwanted_images", "delete_problematic_images",
            "t5_padding", "model_card_note", "model_card_safe_for_work", "modelspec_comment",
            "tracker_image_layout", "prodigy_steps", "i_know_what_i_am_doing", "debug_aspect_buckets",
            "print_filenames", "revision", "variant", "metadata_update_interval", "minimum_image_size",
            "validation_noise_scheduler", "dynamo_backend", "sageattention_usage",
            "validation_using_datasets", "validation_on_startup", "framerate", "prediction_type",
        ),
        "no setting is needed",
    ),
}  # fmt: skip
