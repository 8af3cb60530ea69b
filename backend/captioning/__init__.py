"""Captions written by a model: what is asked for, the job's folder, and its results as drafts.

Nothing here imports torch; the model runs in a process of its own, :mod:`backend.trainer.captioner`.
"""
