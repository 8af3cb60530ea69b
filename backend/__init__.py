"""Everything that works without a screen: runs, events, launchers, the trainer, the demo."""
