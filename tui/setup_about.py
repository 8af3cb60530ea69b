"""What each check is about, for somebody who sets this up for the first time, and what Enter does there."""

from __future__ import annotations

from typing import Literal, NamedTuple

from tui.setup import SetupCheck

ABOUT = {
    "python": "The app runs in Python and needs its packages in the right versions.",
    "terminal": "The app draws on what your terminal can: its size, its colours, and pictures where it knows "
    "a way to show them.",
    "modal-token": "Modal rents GPUs by the second. A token lets this machine start containers in your "
    "account there. Make an account at https://modal.com and a token at https://modal.com/settings/tokens.",
    "modal-workspace": "The workspace pays for what runs and holds your volumes. Each token belongs to one.",
    "modal-budget": "What this month's runs have cost so far, where Modal tells. Every run also has a budget "
    "of its own.",
    "hf-token": "FLUX.1-dev is downloaded from the Hugging Face Hub, which wants to know who asks. A token "
    "with read access to gated models is enough; make one at https://huggingface.co/settings/tokens.",
    "licence": "The base model can be downloaded only by an account that has accepted its licence, on the "
    "model's own page.",
    "base-model": "A volume in your Modal workspace keeps the base model (about 34 GB for FLUX.1-dev), so "
    "that runs need not download it. The first launch sees to it; it can be done ahead of time from here.",
    "config": "A config says what to train, on which pictures and for how long.",
    "datasets": "Folders with pictures, and a caption beside each.",
    "local-training": "Training here needs the packages of the extra 'train' and, for FLUX.1 itself, a GPU "
    "with plenty of memory. The demo trains on any processor. For training on Modal none of it is needed.",
    "secret-files": "Tokens lie in files that only you should be able to read, and that git should not take "
    "along.",
}

Kind = Literal["modal", "profiles", "hf", "page", "download", "new-run", "repair", "copy"]


class Remedy(NamedTuple):
    """What Enter does: how it is done, and in words after "enter"."""

    kind: Kind
    words: str


def remedy(check: SetupCheck) -> Remedy | None:
    """What Enter does for a check; None if nothing can be done from here."""
    bad = check.state not in ("ok", "pending")
    match check.id:
        case "modal-token":
            return Remedy("modal", "enters a Modal token" if bad else "enters another Modal token")
        case "modal-workspace":
            if check.state == "missing":
                return Remedy("modal", "enters a Modal token")
            return Remedy("profiles", "shows the profiles, to switch to another workspace")
        case "hf-token":
            return Remedy("hf", "enters a Hugging Face token" if bad else "enters another token")
        case "base-model" if check.state == "missing":
            return Remedy("download", "starts the download in the cloud")
        case "config" | "datasets":
            return Remedy("new-run", "names a config, which is checked and can be trained")
        case "secret-files" if check.repairable:
            return Remedy("repair", "does that")
        case "licence" if bad and not check.page and "login hf" in check.fix:
            return Remedy("hf", "enters a Hugging Face token")
    if check.page and bad:
        return Remedy("page", "shows the web page")
    return Remedy("copy", "copies the advice") if bad and check.fix else None
