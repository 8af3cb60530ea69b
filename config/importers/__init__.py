"""Other trainers' FLUX.1 LoRA configs as ours: kohya and fluxgym, SimpleTuner, OneTrainer.

Each importer makes a :class:`~config.importers.draft.Draft`, in which every key of the source is either
taken over or explained in a comment. Nothing of the source is executed.
"""

from __future__ import annotations

from config.importers.detect import Imported, import_file, import_text
from config.importers.options import ImportRefusedError

__all__ = ["ImportRefusedError", "Imported", "import_file", "import_text"]
