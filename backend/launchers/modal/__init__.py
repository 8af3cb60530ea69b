"""Training on Modal: launched, followed and brought home by a courier process of its own."""
