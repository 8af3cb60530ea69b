"""Other GPUs for a run that waits for one that nobody lends."""

from __future__ import annotations

from pathlib import Path

FALLBACK = ("A100-80GB", "L40S")
"""GPUs on which FLUX.1 trains too, and that are lent more often."""


def gpus_of(config: Path) -> tuple[str, ...]:
    """The GPUs of a run's config, in order; none if it cannot be read. Slow: call it in a thread."""
    from backend.launchers.modal.rewriting import VOLUME
    from config.load import check_config, variables

    # Only this section counts: data may be on the volume of a run that another machine launched.
    environment = {**variables(config), VOLUME: "/"}
    loaded, _ = check_config(config, env=environment, files=False)
    return tuple(loaded.config.process.modal.gpu) if loaded is not None else ()


def others(gpus: tuple[str, ...]) -> tuple[str, ...]:
    """Those of :data:`FALLBACK` that are not among ``gpus``; none if it is not known what is."""
    return tuple(gpu for gpu in FALLBACK if gpu not in gpus) if gpus else ()
