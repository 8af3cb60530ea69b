"""The demo: a ready-made project that trains in a minute, without a download, account or GPU."""

from __future__ import annotations

from backend.demo.project import DemoError, DemoProject, prepare_demo

__all__ = ["DemoError", "DemoProject", "prepare_demo"]
