"""Measuring training steps of a FLUX.1 with random weights: nothing to download, the real arithmetic."""
