"""Tokens: where they come from, how they are saved, and how they are kept out of sight."""
