"""Runs on Modal from end to end: the real command line and SDK, against the loopback Modal."""
