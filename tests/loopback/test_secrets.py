"""Secrets: they reach a container's environment and nothing else, and their values are never given back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .sdk import run_sdk

if TYPE_CHECKING:
    from .clients import Clients
    from .cloud import LoopbackCloud

VALUE = "hf_loopback_value_that_must_not_leak"


def test_named_secrets_are_created_kept_updated_listed_and_deleted(modal_cloud: LoopbackCloud) -> None:
    seen = run_sdk(
        modal_cloud,
        """
        objects = modal.Secret.objects
        value = arguments["value"]
        await objects.create.aio("huggingface", {"HF_TOKEN": value}, client=client)
        await objects.create.aio("huggingface", {"HF_TOKEN": "other"}, allow_existing=True, client=client)
        errors = {}

        async def note(name, call):
            try:
                await call
            except exception.Error as error:
                errors[name] = [type(error).__name__, str(error)]

        await note("twice", objects.create.aio("huggingface", {}, client=client))
        await note("unknown", modal.Secret.from_name("nope", client=client).hydrate.aio())
        await note("key", modal.Secret.from_name("huggingface", required_keys=["HF_TOKEN", "WANDB_API_KEY"],
                                                 client=client).hydrate.aio())
        secret = modal.Secret.from_name("huggingface", required_keys=["HF_TOKEN"], client=client)
        await secret.hydrate.aio()
        await secret.update.aio({"WANDB_API_KEY": "second"})
        info = await secret.info.aio()
        names = [s.name for s in await objects.list.aio(client=client)]
        await objects.create.aio("short", {"A": "1"}, client=client)
        await objects.delete.aio("short", client=client)
        errors["listed"] = [names, [s.name for s in await objects.list.aio(client=client)], info.name]
        return errors
        """,
        value=VALUE,
    )
    assert seen["twice"][0] == "AlreadyExistsError"
    assert seen["unknown"][0] == seen["key"][0] == "NotFoundError"
    assert "WANDB_API_KEY" in seen["key"][1]
    assert seen["listed"] == [["huggingface"], ["huggingface"], "huggingface"]
    secret = modal_cloud.world.services["accounts"].secrets.named("huggingface")
    assert secret.values == {"HF_TOKEN": VALUE, "WANDB_API_KEY": "second"}


def test_values_reach_the_container_and_nothing_else(modal_cloud: LoopbackCloud) -> None:
    length = run_sdk(
        modal_cloud,
        """
        await modal.Secret.objects.create.aio("named", {"NAMED": arguments["value"]}, client=client)
        app = modal.App("secrets", include_source=False)
        secrets = [modal.Secret.from_name("named", client=client),
                   modal.Secret.from_dict({"ANONYMOUS": arguments["value"][::-1]})]

        @app.function(image=modal.Image.debian_slim(), secrets=secrets, serialized=True)
        def look():
            import os
            return [len(os.environ["NAMED"]), os.environ["ANONYMOUS"][::-1] == os.environ["NAMED"]]

        async with app.run.aio(client=client):
            return await look.remote.aio()
        """,
        value=VALUE,
    )
    assert length == [len(VALUE), True]
    for value in (VALUE, VALUE[::-1]):
        needle = value.encode()
        for file in modal_cloud.root.rglob("*"):
            if file.is_file():
                assert needle not in file.read_bytes(), file
        told = [
            rpc.name
            for rpc in modal_cloud.rpcs()
            for message in (rpc.request, rpc.response)
            if message is not None and needle in message.SerializeToString()
        ]
        assert set(told) == {"SecretGetOrCreate"}
        assert value not in modal_cloud.text()
        assert value not in repr(modal_cloud.world.store.secrets)
    assert modal_cloud.world.services["accounts"].secrets.named("named").last_used_at > 0


def test_the_command_line_creates_and_lists_names_only(modal_cloud: LoopbackCloud, clients: Clients) -> None:
    made = clients.modal("secret", "create", "from-cli", f"TOKEN={VALUE}")
    assert made.returncode == 0, made.stderr
    listed = clients.modal("secret", "list")
    assert "from-cli" in listed.stdout
    assert VALUE not in made.stdout + made.stderr + listed.stdout + listed.stderr
