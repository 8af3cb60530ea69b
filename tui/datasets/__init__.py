"""Datasets behind their screens: an open folder, what keys change in it, and what is watched."""
