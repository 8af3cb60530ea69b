"""What holds for the whole suite."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that mostly wait begin first: others use the machine meanwhile."""
    items.sort(key=lambda item: item.get_closest_marker("waits") is None)
