"""Which programs accept a LoRA file of FLUX.1, and why not.

Each rule is what a program's loader was read to do: diffusers 0.42's ``FluxLoraLoaderMixin``, ComfyUI's
``comfy/lora.py``, Forge's ``sd_forge_lora/networks.py``, kohya's ``networks/lora_flux.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from backend.lora.naming import FLUX, Architecture, Dialect, Key, Role

_FORGE_UNMATCHED = 12  # Forge leaves a LoRA out as a whole if more keys than this have no place
_FORGE_MARKS = ("modelspec.architecture", "modelspec.implementation")
_FLUX_ARCHITECTURE, _FLUX_IMPLEMENTATION = "flux-1-dev/lora", "https://github.com/black-forest-labs/flux"
_COMFY_NAMES = (
    Dialect.DIFFUSERS,
    Dialect.KOHYA,
    Dialect.COMFY,
    Dialect.FLATTENED,
    Dialect.LYCORIS,
    Dialect.BARE,
)
_CONVERT = "fluxlora-tui convert --format"


class Works(StrEnum):
    """Whether a program can use a file."""

    YES = "yes"
    PARTLY = "partly"
    NO = "no"


@dataclass(frozen=True)
class Verdict:
    """What one program makes of a file.

    Attributes:
        reader: The program.
        works: Whether it can use the file.
        reason: Why not, or what to know; may be empty.
        unmatched: Keys that it would leave out.
    """

    reader: str
    works: Works
    reason: str = ""
    unmatched: Collection[str] = ()


def judge(
    keys: Sequence[Key],
    metadata: Mapping[str, str],
    *,
    scaled: bool = False,
    architecture: Architecture = FLUX,
) -> list[Verdict]:
    """What diffusers, ComfyUI, Forge and kohya's sd-scripts make of a file.

    Args:
        keys: All keys of the file.
        metadata: Its metadata.
        scaled: Whether some alpha differs from its rank, so that ignoring alphas changes the picture.
        architecture: The model that the keys were parsed for.
    """
    by_diffusers = diffusers(keys, metadata, scaled=scaled, architecture=architecture)
    return [by_diffusers, comfyui(keys), forge(keys, metadata), kohya(keys)]


def diffusers(
    keys: Sequence[Key],
    metadata: Mapping[str, str],
    *,
    scaled: bool = False,
    architecture: Architecture = FLUX,
) -> Verdict:
    """Diffusers' ``load_lora_weights``: first it decides on one dialect for the whole file."""
    if half := _without_partner(keys, Role.UP, Role.DOWN):
        return Verdict(
            "diffusers", Works.NO, "a matrix without its partner fails, or gets a random one", half
        )
    kept = [key for key in keys if not key.text.endswith(".dora_scale")]  # left out with a warning
    if any(".lora_down.weight" in key.text for key in kept):
        if any(key.text.startswith("transformer.") for key in kept):
            return _diffusers_renamed(keys, scaled=scaled)
        if any(key.name.startswith("lora_transformer_") for key in kept):
            return _diffusers_flattened(keys)
        return _diffusers_kohya(keys, architecture)
    if any("processor" in key.text for key in kept):
        return _verdict("diffusers", kept, lambda key: _is(key, Dialect.XLABS))
    if not any("lora" in key.suffix for key in kept):
        return Verdict("diffusers", Works.NO, "it knows no adapter but LoRA", _texts(keys))
    if "lora_adapter_metadata" in metadata and any(key.role is Role.ALPHA for key in kept):
        return Verdict("diffusers", Works.NO, "it refuses a file that has both alphas and a PEFT config")
    if not any(key.text.startswith(("transformer.", "text_encoder.")) for key in kept):
        reason = f"it would load nothing, with no more than a warning; {_CONVERT} diffusers makes it readable"
        return Verdict("diffusers", Works.NO, reason, _texts(keys))
    without_alpha = {key.name for key in kept} - {key.name for key in kept if key.role is Role.ALPHA}
    if scaled and without_alpha:
        return Verdict("diffusers", Works.NO, "some layers have no alpha, and would get that of others")
    return _verdict("diffusers", keys, _diffusers_knows)


def _diffusers_knows(key: Key) -> bool:
    if not key.text.startswith(("transformer.", "text_encoder.")):
        return False
    return _is_lora(key) or (key.known and key.suffix.startswith("lora_magnitude_vector"))


def _diffusers_renamed(keys: Sequence[Key], *, scaled: bool) -> Verdict:
    """Keys ``transformer.….lora_down``: renamed, what has no such prefix is dropped, alphas are ignored."""
    if scaled:
        reason = (
            f"it ignores the alphas of such a file, so its strength is off; {_CONVERT} diffusers mends it"
        )
        return Verdict("diffusers", Works.NO, reason)
    return _verdict("diffusers", keys, lambda key: key.text.startswith("transformer.") and _is_lora(key))


def _diffusers_flattened(keys: Sequence[Key]) -> Verdict:
    """Keys ``lora_transformer_…``: only attention layers are named right by its converter."""
    if not all(key.name.startswith(("lora_transformer_", "lora_te1_", "lora_unet_")) for key in keys):
        return Verdict("diffusers", Works.NO, "it refuses names of this kind beside others", _texts(keys))
    with_alpha = {key.name for key in keys if key.role is Role.ALPHA}
    if any(key.name not in with_alpha for key in keys if not key.name.startswith("lora_unet_")):
        return Verdict("diffusers", Works.NO, "it needs an alpha for each layer of such a file")
    misnamed = [
        key for key in keys if "transformer_blocks_" in key.name and "_attn_" not in key.name and key.known
    ]
    if misnamed:
        reason = f"of such a file it reads only the attention layers; {_CONVERT} diffusers makes it readable"
        return Verdict("diffusers", Works.NO, reason, _texts(misnamed))
    return _verdict("diffusers", keys, lambda key: _is_lora(key) and _is(key, Dialect.FLATTENED, None))


def _diffusers_kohya(keys: Sequence[Key], architecture: Architecture) -> Verdict:
    """Kohya's names, and BFL's own with ``lora_down``, which are rewritten to kohya's.

    Its converter knows the blocks of FLUX.1. It forgets the prefix of the layers outside of them, so
    these are not loaded.
    """
    ours = ("lora_unet_", "lora_te_", "lora_te1_", "diffusion_model.", "text_encoders.clip_l.transformer.")
    refused = [
        key
        for key in keys
        if key.text.startswith(ours[:1] + ours[3:4]) and not _is(key, Dialect.KOHYA, Dialect.COMFY)
    ]
    if refused:
        return Verdict("diffusers", Works.NO, "it refuses the whole file because of them", _texts(refused))
    if architecture.width != FLUX.width and any(".linear1" in _layer(key) for key in keys):
        return Verdict("diffusers", Works.NO, "it knows kohya's names for layers of FLUX.1's size only")
    return _verdict(
        "diffusers",
        keys,
        lambda key: key.text.startswith(ours) and _is_lora(key) and (_in_block(key) or _is(key, None)),
    )


def comfyui(keys: Sequence[Key]) -> Verdict:
    """ComfyUI takes what it knows and logs the rest."""
    if half := _without_partner(keys, Role.UP):
        return Verdict("ComfyUI", Works.NO, "it fails on a matrix without its partner", half)
    lone = _without_partner(keys, Role.DOWN)  # it looks for the up matrix
    return _verdict("ComfyUI", keys, lambda key: _comfy_knows(key, *_COMFY_NAMES) and key.text not in lone)


def forge(keys: Sequence[Key], metadata: Mapping[str, str]) -> Verdict:
    """Forge knows ComfyUI's names, but leaves a file out that has more than 12 others."""
    if half := _without_partner(keys, Role.UP):
        return Verdict("Forge", Works.NO, "it fails on a matrix without its partner", half)
    names = [dialect for dialect in _COMFY_NAMES if dialect is not Dialect.BARE]
    lone = _without_partner(keys, Role.DOWN)
    verdict = _verdict("Forge", keys, lambda key: _comfy_knows(key, *names) and key.text not in lone)
    if len(verdict.unmatched) > _FORGE_UNMATCHED:
        reason = f"it leaves a file out that has more than {_FORGE_UNMATCHED} keys it does not know"
        return Verdict("Forge", Works.NO, reason, verdict.unmatched)
    if verdict.works is Works.YES and not _marked_as_flux(metadata):
        return Verdict("Forge", Works.YES, "listed as Unknown: the metadata does not say FLUX.1")
    return verdict


def _marked_as_flux(metadata: Mapping[str, str]) -> bool:
    architecture, implementation = (metadata.get(key, "") for key in _FORGE_MARKS)
    return architecture == _FLUX_ARCHITECTURE or implementation == _FLUX_IMPLEMENTATION


def kohya(keys: Sequence[Key]) -> Verdict:
    """Kohya's sd-scripts (``--network_weights``, merging): their own names, with an alpha each."""
    if not any(key.module and key.module.dialect is Dialect.KOHYA for key in keys):
        return Verdict("kohya", Works.NO, f"other names; {_CONVERT} kohya makes it readable", _texts(keys))
    known = [key for key in keys if key.module and key.name.startswith(("lora_unet_", "lora_te1_"))]
    with_alpha = {key.name for key in known if key.role is Role.ALPHA}
    if without := [key for key in known if key.role is Role.DOWN and key.name not in with_alpha]:
        reason = f"it needs an alpha for each layer; {_CONVERT} kohya adds them"
        return Verdict("kohya", Works.NO, reason, _texts(without))
    t5 = "lora_te3_"  # trained with --network_args train_t5xxl=True
    return _verdict(
        "kohya",
        keys,
        lambda key: (
            key.text.startswith(t5) or (_is_lora(key) and key.name.startswith(("lora_unet_", "lora_te1_")))
        ),
    )


def _verdict(reader: str, keys: Sequence[Key], knows: Callable[[Key], bool]) -> Verdict:
    unmatched = tuple(key.text for key in keys if not knows(key))
    if not unmatched:
        return Verdict(reader, Works.YES)
    if len(unmatched) == len(keys):
        return Verdict(reader, Works.NO, "it knows none of the names", unmatched)
    return Verdict(reader, Works.PARTLY, f"{len(unmatched)} of {len(keys)} keys are left out", unmatched)


def _is(key: Key, *dialects: Dialect | None) -> bool:
    return key.known and key.module is not None and key.module.dialect in dialects


def _is_lora(key: Key) -> bool:
    return key.known and key.role in (Role.DOWN, Role.UP, Role.ALPHA)


def _comfy_knows(key: Key, *dialects: Dialect) -> bool:
    if key.suffix.startswith(("lora_magnitude_vector", "down.", "up.")):
        return False
    return _is(key, *dialects, None)


def _layer(key: Key) -> str:
    return key.module.layer.name if key.module else ""


def _in_block(key: Key) -> bool:
    return "_blocks." in _layer(key)


def _without_partner(keys: Sequence[Key], *roles: Role) -> frozenset[str]:
    """Known matrices of a role whose layer lacks the other one of the pair."""
    named: dict[str, set[Role | None]] = {}
    for key in keys:
        named.setdefault(key.name, set()).add(key.role)
    pair = {Role.UP, Role.DOWN}
    return frozenset(
        key.text for key in keys if key.known and key.role in roles and not pair <= named[key.name]
    )


def _texts(keys: Sequence[Key]) -> tuple[str, ...]:
    return tuple(key.text for key in keys)
