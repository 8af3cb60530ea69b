"""How busy the GPU is: told by a thread, and by nobody where there is none."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from backend.trainer import gpu_watch
from backend.trainer.gpu_watch import GpuWatch, gpu_share


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "it never came to pass"
        time.sleep(0.005)


def test_it_keeps_what_was_seen_last_until_the_driver_goes(monkeypatch) -> None:
    monkeypatch.setattr(gpu_watch, "_EVERY", 0.001)
    shares = iter([0.25, 0.5])
    went = []

    def look() -> float:
        if went:
            raise OSError(15, "the GPU is lost")
        return next(shares, 0.75)

    watch = GpuWatch(lambda: look)
    until(lambda: watch.share == 0.75)
    went.append(True)
    until(lambda: watch.share is None)
    watch.thread.join(10)
    assert not watch.thread.is_alive()


def test_a_watch_ends_when_it_is_closed_or_nobody_tells() -> None:
    watch = GpuWatch(lambda: lambda: 0.5)
    until(lambda: watch.share == 0.5)
    watch.close()
    nobody = GpuWatch(lambda: None)
    for one in (watch, nobody):
        one.thread.join(10)
        assert not one.thread.is_alive()
    assert nobody.share is None


def test_a_cpu_is_not_watched() -> None:
    assert gpu_share(torch.device("cpu")) is None
