"""Checks that tell what a launch still lacks, one by one as they are known."""

from __future__ import annotations

from backend.doctor.check import Check, Status, launch_works
from backend.doctor.run import run_checks
from backend.doctor.situation import Situation

__all__ = ["Check", "Situation", "Status", "launch_works", "run_checks"]
