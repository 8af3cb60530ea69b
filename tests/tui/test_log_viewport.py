from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tui.logs.pace import Pace
from tui.logs.store import LogStore
from tui.logs.viewport import LogViewport


def _viewport(lines: list[str], width: int = 20, height: int = 5) -> LogViewport:
    store = LogStore()
    store.feed("".join(line + "\n" for line in lines).encode())
    viewport = LogViewport(store)
    viewport.resize(width, height)
    return viewport


def _numbered(count: int) -> list[str]:
    return [f"line {n}" for n in range(count)]


def test_following_shows_the_last_page_as_lines_come() -> None:
    viewport = _viewport(_numbered(10))
    assert viewport.layout() == [(n, 0) for n in range(5, 10)]
    viewport.store.feed(b"more\n")
    assert viewport.layout()[-1] == (10, 0)


def test_any_move_up_lets_go_and_the_end_takes_it_up() -> None:
    viewport = _viewport(_numbered(10))
    viewport.layout()
    viewport.move(-1)
    assert not viewport.follow
    assert viewport.rows[0] == (4, 0)
    viewport.store.feed(b"new\nnew\n")
    viewport.layout()
    assert viewport.rows[0] == (4, 0)
    assert viewport.new_lines == 2
    viewport.move(100)
    assert viewport.rows[-1] == (11, 0)
    assert not viewport.follow
    viewport.move(1)
    assert viewport.follow
    assert viewport.new_lines == 0


def test_wrapped_lines_move_by_rows() -> None:
    viewport = _viewport(["a" * 45, "b" * 45, "c" * 45], width=20, height=4)
    viewport.set_wrap(True)
    assert viewport.layout() == [(1, 2), (2, 0), (2, 1), (2, 2)]
    viewport.move(-1)
    assert viewport.rows == [(1, 1), (1, 2), (2, 0), (2, 1)]
    viewport.go_to_top()
    assert viewport.rows == [(0, 0), (0, 1), (0, 2), (1, 0)]
    viewport.move(-5)
    assert viewport.rows[0] == (0, 0)
    viewport.move(2)
    assert viewport.rows[0] == (0, 2)


def test_a_short_log_starts_at_the_top() -> None:
    viewport = _viewport(_numbered(2))
    assert viewport.layout() == [(0, 0), (1, 0)]
    viewport.move(-1)
    assert viewport.rows == [(0, 0), (1, 0)]
    assert _viewport([]).layout() == []


def test_dropped_lines_push_the_view_on() -> None:
    store = LogStore(spool_limit=8192)
    viewport = LogViewport(store)
    viewport.resize(20, 3)
    store.feed(b"".join(b"line %d\n" % n for n in range(100)))
    viewport.go_to(10)
    assert viewport.rows[0] == (10, 0)
    store.feed(b"".join(b"line %d\n" % n for n in range(100, 5000)))
    assert viewport.layout()[0] == (store.first, 0)
    assert viewport.line(store.first).text == f"line {store.first}"


def test_a_cleared_log_shows_the_new_lines() -> None:
    viewport = _viewport(_numbered(10))
    viewport.layout()
    assert viewport.line(9).text == "line 9"
    viewport.move(-3)
    viewport.store.clear()
    viewport.store.feed(b"fresh\n" * 20)
    viewport.layout()
    assert viewport.line(9).text == "fresh"


def test_reveal_pans_to_the_match() -> None:
    viewport = _viewport([*_numbered(50), "." * 200 + "needle", *_numbered(50)])
    viewport.reveal(50, 200)
    assert (50, 0) in viewport.rows
    assert viewport.pan <= 200 < viewport.pan + viewport.width
    viewport.set_wrap(True)
    viewport.reveal(50, 200)
    assert (50, 10) in viewport.rows
    assert viewport.pan == 0


def test_panning_ends_at_the_longest_visible_line() -> None:
    viewport = _viewport(["x" * 50, "y"])
    viewport.layout()
    viewport.pan_by(1000)
    assert viewport.pan == 31  # the last character and one blank are visible
    viewport.pan_by(-1000)
    assert viewport.pan == 0
    viewport.set_wrap(True)
    viewport.layout()
    viewport.pan_by(8)
    assert viewport.pan == 0


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 60).map(lambda n: "x" * n), max_size=30),
    st.integers(1, 30),
    st.integers(1, 12),
    st.booleans(),
    st.lists(
        st.one_of(st.integers(-20, 20), st.sampled_from(["feed", "wrap", "top", "follow"])), max_size=15
    ),
)
def test_the_window_is_always_full_ordered_and_inside(
    lines: list[str], width: int, height: int, wrap: bool, moves: list[int | str]
) -> None:
    viewport = _viewport(lines, width, height)
    viewport.set_wrap(wrap)
    for move in moves:
        if move == "feed":
            viewport.store.feed(b"fed line\n")
        elif move == "wrap":
            viewport.set_wrap(not viewport.wrap)
        elif move == "top":
            viewport.go_to_top()
        elif move == "follow":
            viewport.follow = not viewport.follow
        else:
            viewport.move(int(move))
        rows = viewport.layout()
        every = [(n, r) for n in range(viewport.store.stop) for r in range(len(viewport.starts(n)))]
        assert len(rows) == min(height, len(every))
        if rows:
            first = every.index(rows[0])
            assert rows == every[first : first + len(rows)]
        if viewport.follow:
            assert viewport.at_end
        position, total = viewport.scroll_extent()
        assert 0 <= position <= max(0, total - height)


def test_pace_yields_to_keys_but_not_for_long() -> None:
    pace = Pace(quiet=0.06, longest=0.25)
    assert pace.may_paint(0.0)
    pace.note_input(1.0)
    assert not pace.may_paint(1.01)
    assert pace.may_paint(1.07)
    painted = []
    for tick in range(50):
        now = 2.0 + tick * 0.02
        pace.note_input(now)
        if pace.may_paint(now):
            painted.append(now)
    gaps = [b - a for a, b in zip([2.0, *painted], painted, strict=False)]
    assert len(painted) >= 3
    assert max(gaps) < 0.29
    pace = Pace(quiet=0.06, longest=0.25)
    assert not pace.may_paint(10.0, busy=True)
    assert pace.may_paint(10.3, busy=True)
