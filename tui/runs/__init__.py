"""Runs behind their screens: what is watched, remembered, asked for and brought home."""
