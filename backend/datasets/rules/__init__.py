"""What can be wrong with a dataset: a rule each, in :mod:`.captions`, :mod:`.pictures` and :mod:`.whole`."""
