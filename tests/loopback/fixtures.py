"""Fixtures for tests that need a Modal: import `modal_cloud` from here in a conftest."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from .clients import Clients
from .cloud import LoopbackCloud

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def modal_cloud() -> Iterator[LoopbackCloud]:
    """A loopback Modal of its own. The test fails if it was asked what it does not know, or if it broke."""
    if sys.platform == "win32":
        pytest.skip("Modal's container entrypoint needs unix signals and sockets")
    with LoopbackCloud() as cloud:
        yield cloud
        unimplemented, failures = cloud.unimplemented, cloud.failures
    assert not unimplemented, f"calls that the loopback Modal does not know: {unimplemented}"
    assert not failures, "the loopback Modal broke:\n" + "\n".join(failures)


@pytest.fixture
def clients(modal_cloud: LoopbackCloud, tmp_path: Path) -> Clients:
    """The real SDK and CLI in processes of their own, for `modal_cloud`."""
    return Clients(modal_cloud, tmp_path)
