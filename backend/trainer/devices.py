"""Which device a run trains on."""

from __future__ import annotations

import torch

from backend.trainer.errors import TrainingError
from backend.trainer.report import Reporter


def choose_device(wanted: str | None, report: Reporter) -> torch.device:
    """The device named in the config, or the best there is: CUDA, else Apple's MPS, else the CPU.

    A device that this machine lacks is no failure: configs travel, and ai-toolkit ignores the key. The
    best there is takes its place with a warning.

    Raises:
        TrainingError: The name is no device's.
    """
    if not wanted or not wanted.strip():
        return _best()
    try:
        device = torch.device(wanted.strip().lower())
    except RuntimeError:
        raise TrainingError(
            f"the device {wanted!r} is no device; use cuda, cuda:1, mps or cpu", "no_device", bad_input=True
        ) from None
    if device.type == "cuda" and device.index is None and torch.cuda.is_available():
        device = torch.device("cuda", torch.cuda.current_device())
    missing = _what_is_missing(device)
    if missing:
        device = _best()
        report.warning(
            f"the device {wanted} of the config is not there ({missing}): training on {device.type} instead",
            "device_fallback",
        )
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device


def _best() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _what_is_missing(device: torch.device) -> str | None:
    """Why this device cannot be used; None if it can."""
    if device.type == "cuda":
        if not torch.cuda.is_available():
            return "torch sees no NVIDIA GPU"
        count = torch.cuda.device_count()
        return f"torch sees {count} GPU(s)" if device.index is not None and device.index >= count else None
    if device.type == "mps":
        return None if torch.backends.mps.is_available() else "MPS needs a Mac with Apple silicon"
    return None if device.type == "cpu" else "only cuda, mps and cpu are supported"


def prepare_device(device: torch.device) -> None:
    """Set what all training on a device needs.

    cuDNN's attention gives wrong gradients for FLUX's tensor layouts, up to illegal memory accesses
    (seen on an H200 with torch 2.11 and cuDNN 9.19, where it is torch's first choice; flash, efficient
    and plain attention agree with the CPU). Its forward pass is sound; training needs the other one.
    """
    if device.type == "cuda":
        torch.backends.cuda.enable_cudnn_sdp(False)


def describe_device(device: torch.device) -> str:
    """What people call it: the GPU's name, or ``cpu``."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """``tensor`` on ``device``, without waiting for what the device has to do before.

    A copy from memory that is not pinned waits for the stream.
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device, non_blocking=True)
