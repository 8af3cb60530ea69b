"""Logs without a screen: storing, cleaning, searching and laying out their lines. No Textual here."""
