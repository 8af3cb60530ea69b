"""The end of a file on a volume, without its beginning.

Modal's protocol can do that and its SDK does not offer it, so this asks through the SDK's own connection. All
that it uses of the SDK is private: whoever calls this reads the whole file where it does not work.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

_BLOCK = 8 << 20  # bytes; a file's blocks begin at multiples of it
_SECONDS = 120.0  # for one block


class NoRangeError(Exception):
    """The end of the file cannot be had alone."""


async def read_from(volume: Any, path: str, start: int) -> AsyncIterator[bytes]:
    """The content of a file from byte ``start`` on, in portions of at most 8 MiB.

    Args:
        volume: The SDK's volume.
        path: The file.
        start: Bytes that are not wanted.

    Raises:
        NoRangeError: Not this way; what was given out so far is right.
    """
    try:
        blocks = await _blocks(volume, path, start)
    except Exception as error:
        raise NoRangeError(str(error)) from error
    import aiohttp

    async with aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=_SECONDS), trust_env=True
    ) as session:
        for url, length in blocks:
            try:
                async with session.get(url) as answer:
                    answer.raise_for_status()
                    data = await answer.read()
            except (TimeoutError, aiohttp.ClientError) as error:
                raise NoRangeError(str(error)) from error
            if len(data) > length:
                raise NoRangeError(f"a block has {len(data)} bytes instead of {length}")
            yield data.ljust(length, b"\0")  # zeros at a block's end may be left out


async def _blocks(volume: Any, path: str, start: int) -> list[tuple[str, int]]:
    """Where the blocks are, and how many bytes of each are wanted."""
    from modal._utils.async_utils import synchronize_api
    from modal_proto import api_pb2

    async def ask(inner: Any, path: str, start: int) -> list[Any]:
        request = api_pb2.VolumeGetFile2Request(
            volume_id=inner.object_id, path=path, start=start, client_pads_blocks=True
        )
        answer = await inner.client._stub.VolumeGetFile2(request)
        return [list(answer.get_urls), answer.size, answer.start, answer.len]

    urls, size, begin, length = await synchronize_api(ask).aio(volume, path, start)
    if begin != start or length != max(0, size - start):
        raise NoRangeError(f"asked from {start} on, got {length} bytes from {begin}")
    blocks, position, end = [], start, start + length
    for url in urls:
        stop = min(end, (position // _BLOCK + 1) * _BLOCK)
        blocks.append((url, stop - position))
        position = stop
    if position != end:
        raise NoRangeError(f"{len(urls)} blocks are not {length} bytes")
    return blocks
