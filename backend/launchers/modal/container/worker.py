"""The functions that are handed to Modal: plain, global, and quick to import."""

from __future__ import annotations

from typing import Any


def train(ref: dict[str, Any]) -> dict[str, Any]:
    """Work on a run in this container.

    Args:
        ref: ``{"folder", "run_id", "volume_id", "volume_name", "base_volume_id", "sample_function_id"}``; the
            rest is in ``<folder>/state/launch.json`` on the volume.

    Returns:
        ``{"ok", "status", "reason", "step", "boot", "error", "samplers"}``. A failure that would happen again
        is returned, not raised.

    Raises:
        RuntimeError: A new container may do better.
        KeyboardInterrupt: The container was preempted; all is saved and committed.
        BaseException: Modal's ``InputCancellation``, likewise.
    """
    from backend.launchers.modal.container.interruptions import work_interruptibly
    from backend.launchers.modal.container.launch_file import BadLaunchError, Ref
    from backend.launchers.modal.container.supervisor import PATIENCE, Supervisor

    try:
        supervisor = Supervisor(Ref.parse(ref))
    except (BadLaunchError, ValueError) as error:
        return _refused(str(error))
    return work_interruptibly(supervisor.run, supervisor.interrupt, PATIENCE)


def sample(ref: dict[str, Any]) -> dict[str, Any]:
    """Draw a round of samples that the trainer handed over.

    Args:
        ref: As for :func:`train`, with ``step``.

    Returns:
        ``{"ok", "status", "reason", "step", "boot", "error"}``.
    """
    from backend.launchers.modal.container.errands import sample_round

    return sample_round(ref)


def prefetch(ref: dict[str, Any]) -> dict[str, Any]:
    """Download the base model onto its volume.

    Args:
        ref: As for :func:`train`; the run's config says which model.

    Returns:
        ``{"ok", "status", "reason", "step", "boot", "error"}``.
    """
    from backend.launchers.modal.container.errands import prefetch_model

    return prefetch_model(ref)


def caption(ref: dict[str, Any]) -> dict[str, Any]:
    """Caption pictures that are on the volume.

    Args:
        ref: ``{"folder", "pictures", "request", "volume_id", "volume_name", "base_volume_id",
            "base_volume_name", "model_folder"}``.

    Returns:
        ``{"ok", "status", "reason", "step", "boot", "error"}``.
    """
    from backend.launchers.modal.container.errands import caption_pictures

    return caption_pictures(ref)


def _refused(reason: str) -> dict[str, Any]:
    return {"ok": False, "status": "failed", "reason": reason, "step": 0, "boot": 0, "error": "bad_launch"}
