"""Configs behind their screens: the file under the editor, what is asked of its text, the way to runs."""
