"""The queue of thumbnails, without a terminal."""

from __future__ import annotations

import threading

from tui.pictures.loader import Loader


def test_what_was_scrolled_past_is_never_begun() -> None:
    begun: list[int] = []
    done: dict[int, object] = {}
    gate, ready = threading.Event(), threading.Event()

    def load(key: int) -> int:
        begun.append(key)
        assert gate.wait(20)
        return key * 2

    def finished(key: int, result: object) -> None:
        done[key] = result
        if 9 in done:
            ready.set()

    loader: Loader[int, int] = Loader(load, finished, threads=1)
    loader.want([1, 2, 3])
    while not begun:
        threading.Event().wait(0.001)
    loader.want([8, 9])  # 2 and 3 are out of sight now
    gate.set()
    assert ready.wait(20)
    loader.close()
    assert begun == [1, 8, 9]
    assert done == {1: 2, 8: 16, 9: 18}


def test_an_error_is_a_result_and_nothing_comes_after_the_end() -> None:
    done: list[object] = []
    told = threading.Event()

    def load(key: int) -> int:
        raise ValueError("broken")

    def finished(key: int, result: object) -> None:
        done.append(result)
        told.set()

    loader: Loader[int, int] = Loader(load, finished)
    loader.want([1])
    assert told.wait(20)
    assert isinstance(done[0], ValueError)
    loader.close()
    loader.want([2])
    assert len(done) == 1
