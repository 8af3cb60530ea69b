"""Why an option of OneTrainer has no key here."""

from __future__ import annotations

from collections.abc import Mapping

_NOISE = "this noise is not made here"
_SNR = "it belongs to older diffusion models, FLUX.1 is a flow-matching one"
_EMBEDDING = "embeddings are not trained here"
_ONE_GPU = "a run uses one GPU"
_OFFLOAD = "nothing is moved to the CPU while training; model.quantize saves more memory"

NO_EQUAL: Mapping[str, tuple[str, str]] = {
    "custom_learning_rate_scheduler": ("train", "schedules are the five of train.lr_scheduler"),
    "scheduler_params": ("train", "schedules are the five of train.lr_scheduler"),
    "perturbation_noise_weight": ("train", _NOISE),
    "generalized_offset_noise": ("train", _NOISE),
    "cep_gamma": ("train", _NOISE),
    "rescale_noise_scheduler_to_zero_terminal_snr": ("train", _SNR),
    "force_v_prediction": ("train", _SNR),
    "force_epsilon_prediction": ("train", _SNR),
    "additional_embeddings": ("network", _EMBEDDING),
    "multi_gpu": ("train", _ONE_GPU),
    "compile": ("train", "blocks are compiled where that is possible (train.compile)"),
    "layer_offload_fraction": ("model", _OFFLOAD),
    "force_circular_padding": ("model", "pictures do not wrap around"),
    "validation": ("train", "held-out pictures are given by train.validation_split"),
    "custom_conditioning_image": ("datasets", "conditioning pictures are not used"),
    "lora_decompose_output_axis": ("network", "DoRA's norms are over the inputs"),
    "lokr_decompose_both": ("network", "the larger factor alone is decomposed"),
    "lokr_weight_decompose": ("network", "LoKr is not combined with DoRA"),
    "continue_last_backup": ("", "the state of another trainer cannot be taken up"),
    "debug_mode": ("", "the log and the samples tell"),
    "loss_scaler": ("train", "gradients are averaged; scale the learning rate instead"),
}

_UNUSED = "no part in LoRA training of FLUX.1"
_BY_ITSELF = "no setting is needed"

QUIET: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "image_caching", "text_caching", "latent_caching", "clear_cache_before_training", "cache_dir",
            "caching_threads", "dataloader_threads", "prefetch_next_batch", "only_cache",
        ),
        "latents and text embeddings are always cached",
    ),
    **dict.fromkeys(
        (
            "unet", "effnet_encoder", "decoder", "decoder_text_encoder", "decoder_vqgan", "text_encoder_3",
            "text_encoder_4", "unconditional_transformer", "embedding", "embedding_weight_dtype",
            "embedding_learning_rate", "preserve_embedding_norm", "embeddings", "frames",
            "vb_loss_strength", "huber_delta", "loss_weight_strength", "oft_block_size", "oft_block_share",
            "oft_scaled", "oft_clipped_norm", "oft_cans", "dora_oft", "lokr_dim", "lokr_decompose_factor",
            "lokr_full_matrix", "lokr_use_tucker", "lokr_vec_trick", "lokr_dora_on_output",
            "lora_decompose_norm_epsilon", "bundle_additional_embeddings", "text_encoder_layer_skip",
            "text_encoder_2_layer_skip", "text_encoder_3_layer_skip", "text_encoder_4_layer_skip",
            "text_encoder_sequence_length", "text_encoder_2_sequence_length", "optimizer_defaults",
            "quantization", "sample_video_format", "sample_audio_format", "unmasked_weight",
            "learning_rate_cycles", "train_any_embedding", "stop_training_after", "debug_dir",
        ),
        _UNUSED,
    ),
    **dict.fromkeys(
        (
            "__version", "workspace_dir", "train_device", "temp_device", "attention_mechanism",
            "enable_autocast_cache", "fallback_train_dtype", "lora_weight_dtype", "output_model_format",
            "tensorboard", "tensorboard_expose", "tensorboard_port", "tensorboard_always_on",
            "validate_after", "validate_after_unit", "device_indexes", "gradient_reduce_precision",
            "fused_gradient_reduce", "async_gradient_reduce", "async_gradient_reduce_buffer",
            "async_offloading", "enable_async_offloading", "enable_activation_offloading",
            "samples_to_tensorboard", "non_ema_sampling", "backup_after", "backup_after_unit",
            "rolling_backup", "rolling_backup_count", "backup_before_save", "save_skip_first",
            "save_filename_prefix", "include_train_config", "prevent_overwrites", "gradient_checkpointing",
        ),
        _BY_ITSELF,
    ),
    "cloud": "where a run trains is chosen when it is launched",
}  # fmt: skip
