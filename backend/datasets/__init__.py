"""Datasets without a screen: what is in a folder of captioned pictures, what is wrong, and its repair.

Nothing here imports torch. The rules of reading, wording and framing are the trainer's own
(``backend.trainer.captions``, ``buckets``, ``pictures``), so that what is shown is what is trained.
"""
