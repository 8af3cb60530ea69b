"""The environment of the courier and of errands: with the tokens that belong to the run's project.

Tokens travel to these processes in their environment, which only the user's own account can read; never in
arguments, files or logs.
"""

from __future__ import annotations

from pathlib import Path

from backend.credentials.hf_token import find_hf_token
from backend.credentials.modal_profiles import find_modal_token


def with_tokens(project: Path | None = None) -> dict[str, str]:
    """The environment, completed by ``.env`` files and by the tokens that win for a project.

    Args:
        project: The folder of the config; the working folder if None.
    """
    from config.load import variables

    folder = project or Path.cwd()
    environment = variables(folder / "config.yaml")
    token = find_modal_token(environment, folder)
    if token is not None:
        environment["MODAL_TOKEN_ID"] = token.token_id
        environment["MODAL_TOKEN_SECRET"] = token.token_secret.reveal()
        if token.server_url:
            environment["MODAL_SERVER_URL"] = token.server_url
    hub = find_hf_token(environment, folder)
    if hub is not None:
        environment["HF_TOKEN"] = hub.token.reveal()
    return environment
