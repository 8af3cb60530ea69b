"""All randomness of a run, from one seed, and its state for an exact resume.

Every purpose draws from a generator of its own, so that one more draw for one purpose (a sample
picture, a caption dropout) does not shift the draws of another.
"""

from __future__ import annotations

import hashlib
import random
from typing import Any

import torch


def derive_seed(seed: int, *purpose: object) -> int:
    """A 63-bit seed for one purpose; different purposes give unrelated seeds."""
    text = "/".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1


class Randomness:
    """The generators of the training loop.

    Attributes:
        noise: On the training device: the noise added to latents.
        sigma: On the CPU: noise levels.
        caption: On the CPU: which captions are dropped.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self.noise = torch.Generator(device=device).manual_seed(derive_seed(seed, "noise"))
        self.sigma = torch.Generator().manual_seed(derive_seed(seed, "sigma"))
        self.caption = torch.Generator().manual_seed(derive_seed(seed, "caption"))
        self._device = device
        self._words: tuple[int, ...] = ()
        self._words_tensor = torch.empty(0, dtype=torch.int64)
        # Dropout inside the adapter has no generator argument: it draws from the global state.
        random.seed(derive_seed(seed, "python"))
        torch.manual_seed(derive_seed(seed, "torch"))

    def state(self) -> dict[str, Any]:
        """Everything that :meth:`load` needs: tensors and plain values only."""
        return {
            "noise": self.noise.get_state(),
            "noise_device": self._device.type,
            "sigma": self.sigma.get_state(),
            "caption": self.caption.get_state(),
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state(self._device) if self._device.type == "cuda" else None,
            "python": self._python_state(),
        }

    def _python_state(self) -> list[Any]:
        """Python's own generator; it is asked before every update and rarely drawn from."""
        version, words, gauss = random.getstate()
        if words != self._words:
            self._words, self._words_tensor = words, torch.tensor(words, dtype=torch.int64)
        return [version, self._words_tensor, gauss]

    def load(self, state: dict[str, Any]) -> bool:
        """Go on from a saved state.

        Returns:
            False if it was saved on another kind of device: its noise cannot be continued exactly.
        """
        version, words, gauss = state["python"]
        random.setstate((version, tuple(words.tolist()), gauss))
        torch.set_rng_state(state["torch"])
        self.sigma.set_state(state["sigma"])
        self.caption.set_state(state["caption"])
        if state["noise_device"] != self._device.type:
            return False
        self.noise.set_state(state["noise"])
        if state["cuda"] is not None:
            torch.cuda.set_rng_state(state["cuda"], self._device)
        return True
