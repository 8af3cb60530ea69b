"""Names of Modal's volumes where nobody names others."""

RUNS_VOLUME = "flux-lora-models"
"""For runs and datasets."""

BASE_VOLUME = "flux-base-model"
"""For models from the Hub."""
