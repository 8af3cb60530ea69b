"""How busy the GPU is, as the driver tells; a thread looks, so that no step waits for it."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from functools import cache

import torch

_EVERY = 2.0  # seconds between looks; the driver's own figure is over the last second at most
_LIBRARIES = ("libnvidia-ml.so.1", "nvml.dll")


class _Rates(ctypes.Structure):
    """``nvmlUtilization_t``: percent of the time in which kernels ran, and in which memory was in use."""

    _fields_ = [("gpu", ctypes.c_uint), ("memory", ctypes.c_uint)]


class GpuWatch:
    """Keeps what was seen last.

    Args:
        open_driver: Gives what looks: it returns the share of the time in which the GPU computes. None:
            nobody tells. Called in the thread.

    Attributes:
        share: From 0 to 1; None while it is not known.
    """

    def __init__(self, open_driver: Callable[[], Callable[[], float] | None]) -> None:
        self.share: float | None = None
        self._over = threading.Event()
        self.thread = threading.Thread(target=self._watch, args=(open_driver,), name="gpu-watch", daemon=True)
        self.thread.start()

    def _watch(self, open_driver: Callable[[], Callable[[], float] | None]) -> None:
        look = open_driver()
        while look is not None and not self._over.is_set():
            try:
                self.share = look()
            except OSError:  # the driver went away, or does not tell of this card
                self.share = None
                return
            self._over.wait(_EVERY)

    def close(self) -> None:
        """Look no more."""
        self._over.set()


def gpu_share(device: torch.device) -> float | None:
    """The share of the last second in which the device computed; None for a CPU, or while nobody tells.

    The first call begins to watch; none waits.
    """
    return _watch(device).share if device.type == "cuda" else None


@cache
def _watch(device: torch.device) -> GpuWatch:
    return GpuWatch(lambda: _driver(device))


def _driver(device: torch.device) -> Callable[[], float] | None:
    """What asks the driver about a GPU; None if it cannot be asked."""
    library = _library()
    uuid = getattr(torch.cuda.get_device_properties(device), "uuid", None)
    if library is None or uuid is None or library.nvmlInit_v2():
        return None
    # By its name: the driver's numbers are not torch's where CUDA_VISIBLE_DEVICES is set.
    handle = ctypes.c_void_p()
    name = f"GPU-{str(uuid).removeprefix('GPU-')}".encode()
    if library.nvmlDeviceGetHandleByUUID(name, ctypes.byref(handle)):
        return None

    def look() -> float:
        rates = _Rates()
        if code := library.nvmlDeviceGetUtilizationRates(handle, ctypes.byref(rates)):
            raise OSError(code, "the driver does not tell how busy the GPU is")
        return int(rates.gpu) / 100

    return look


def _library() -> ctypes.CDLL | None:
    for name in _LIBRARIES:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None
