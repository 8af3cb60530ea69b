"""The trainer: a LoRA of FLUX.1 on this machine, one run folder a process.

``python -m backend.trainer RUN_FOLDER`` is the whole interface; see :mod:`backend.trainer.session`
for the order of things. Only this package imports torch, and importing the package itself does not.
"""
