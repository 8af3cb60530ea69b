"""Runs: their folders, their events, what the events add up to, and the registry of all runs."""
