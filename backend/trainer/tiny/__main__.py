"""``python -m backend.trainer.tiny FOLDER`` builds the tiny FLUX."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from backend.trainer.errors import INSTALL_HINT
from backend.trainer.tiny import build_tiny_flux


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns 0, or 1 with one sentence on stderr."""
    parser = argparse.ArgumentParser(
        prog="python -m backend.trainer.tiny", description="Build a tiny FLUX.1."
    )
    parser.add_argument("folder", type=Path, help="where to put it")
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights (default 0)")
    parser.add_argument("--schnell", action="store_true", help="without a guidance embedder")
    chosen = parser.parse_args(arguments)
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"  # silences transformers, too
    try:
        build_tiny_flux(chosen.folder, seed=chosen.seed, guidance_embeds=not chosen.schnell)
    except ImportError as error:
        print(
            f"training needs libraries that are not installed ({error.name or error}): {INSTALL_HINT}",
            file=sys.stderr,
        )
        return 1
    except OSError as error:
        print(f"the tiny FLUX cannot be written to {chosen.folder}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
