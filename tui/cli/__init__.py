"""The same without a screen: every command of ``fluxlora-tui``."""
