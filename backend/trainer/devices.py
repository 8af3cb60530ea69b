"""Which device a run trains on."""

from __future__ import annotations

import torch

from backend.trainer.errors import TrainingError


def choose_device(wanted: str | None) -> torch.device:
    """The device named in the config, or the best there is: CUDA, else Apple's MPS, else the CPU.

    Raises:
        TrainingError: There is no such device.
    """
    if not wanted:
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(wanted.strip().lower())
    except RuntimeError:
        raise _no_device(wanted, "is no device; use cuda, cuda:1, mps or cpu") from None
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise _no_device(
                wanted, "is not there: torch sees no NVIDIA GPU; leave device out to use the CPU"
            )
        index = torch.cuda.current_device() if device.index is None else device.index
        if index >= torch.cuda.device_count():
            raise _no_device(wanted, f"is not there: torch sees {torch.cuda.device_count()} GPU(s)")
        device = torch.device("cuda", index)
        torch.cuda.set_device(device)
        return device
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise _no_device(wanted, "is not there: MPS needs a Mac with Apple silicon")
    if device.type not in ("cpu", "mps"):
        raise _no_device(wanted, "is not supported; use cuda, mps or cpu")
    return device


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


def _no_device(wanted: str, what: str) -> TrainingError:
    return TrainingError(f"the device {wanted!r} {what}", "no_device", bad_input=True)
