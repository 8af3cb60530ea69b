"""What holds for the whole suite."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

# The stand-in for Modal is tried by everything in tests/modal; of its own tests, these few are quick.
_LOOPBACK = Path(__file__).parent / "loopback"
_QUICK = {"test_runs", "test_volume_trees", "test_volume_copies"}

# Before torch is loaded, here or by a process of a test: as many workers as there are share two cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

gc.disable()  # until all is collected: importing makes much and leaves little to free


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the stand-in's own tests, and begin with those that mostly wait: others work meanwhile."""
    for item in items:
        if item.path.parent == _LOOPBACK and item.path.stem not in _QUICK:
            item.add_marker(pytest.mark.thorough)
    items.sort(key=lambda item: item.get_closest_marker("waits") is None)


def pytest_collection_finish() -> None:
    """Leave modules and test items out of all later collections of garbage: there are a million of them."""
    gc.collect()
    gc.freeze()
    gc.enable()
