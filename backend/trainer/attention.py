"""Choosing diffusers' attention backend for training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backend.trainer.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Callable

    from diffusers import FluxTransformer2DModel

NATIVE = "native"

# Why a backend cannot train, by the beginning of its name.
_UNFIT = {
    "sage": "it has no backward pass",
    "_sage": "it has no backward pass",
    "_native_cudnn": "its gradients are wrong for FLUX's tensor layouts (see prepare_device)",
}
_ANYWHERE = ("native", "_native_math", "_native_flash", "flex")  # the others need a GPU


def set_attention(transformer: FluxTransformer2DModel, backend: str, warn: Callable[[str, str], None]) -> str:
    """Use ``backend`` in the transformer; one that cannot be used here is replaced by torch's own.

    Args:
        transformer: The model, on its device.
        backend: Its name, in any case.
        warn: Called with a sentence and a code if it is replaced.

    Returns:
        The backend in use.

    Raises:
        TrainingError: There is no backend of that name.
    """
    from diffusers.models.attention_dispatch import AttentionBackendName

    name = backend.strip().lower()
    known = [item.value for item in AttentionBackendName]
    if name not in known:
        raise TrainingError(
            f"train.attention_backend {backend!r} is not known to diffusers; there are {', '.join(known)}",
            "bad_attention_backend",
            bad_input=True,
        )
    if name == NATIVE:
        return name
    why = next((reason for start, reason in _UNFIT.items() if name.startswith(start)), None)
    if why is None and transformer.device.type != "cuda" and name not in _ANYWHERE:
        why = f"it needs an NVIDIA GPU, not {transformer.device.type}"
    if why is None:
        try:
            transformer.set_attention_backend(name)
        except Exception as error:  # missing packages, old drivers, kernels that cannot be downloaded
            why = (str(error).strip() or type(error).__name__).splitlines()[0]
    if why is None:
        return name
    warn(f"train.attention_backend {name} cannot be used: {why}; torch's own is used", "attention_backend")
    return NATIVE
