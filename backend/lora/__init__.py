"""LoRA files of FLUX.1 without torch: what is in one, who can read it, and its other formats."""
