"""How much of a base model lies on its volume in the cloud, asked in a process that may load Modal's SDK."""

from __future__ import annotations

import os

from backend.credentials.modal_profiles import ModalToken
from backend.doctor.situation import CachedModel, Shelf
from backend.network import NetworkError


async def ask_library(token: ModalToken, shelf: Shelf, model: str) -> CachedModel | None:
    """What the volume holds of a model; None if the question failed. A volume that is not there is not made.

    Raises:
        NetworkError: Modal cannot be reached.
    """
    from backend.launchers.base import LaunchError
    from backend.launchers.modal.errand import ask
    from backend.launchers.modal.remote import OfflineError

    # In the environment, which only the user's own processes can read; never as an argument.
    environment = {
        **os.environ,
        "MODAL_TOKEN_ID": token.token_id,
        "MODAL_TOKEN_SECRET": token.token_secret.reveal(),
    }
    if token.server_url is not None:
        environment["MODAL_SERVER_URL"] = token.server_url
    try:
        answer = await ask(
            "library",
            {"base_volume": shelf.volume, "environment": shelf.environment},
            environment=environment,
        )
        found = [entry for entry in answer["models"] if entry["repo"] == model]
        if not found:
            return CachedModel(0, False)
        return CachedModel(
            max(int(entry["bytes"]) for entry in found), any(entry["complete"] for entry in found)
        )
    except OfflineError:
        raise NetworkError("broken", "Modal cannot be reached", "try again") from None
    except (LaunchError, KeyError, TypeError, ValueError):
        return None
