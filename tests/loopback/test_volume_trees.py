"""Paths of a volume: what may be put, listed, copied and removed. No server, no disk."""

from __future__ import annotations

import pytest

from .trees import FileNode, FolderNode, LinkNode, TreeError, VolumeTree, clean_path

A, B = FileNode(3, 1, 0o644, ("a" * 64,)), FileNode(5, 2, 0o600, ("b" * 64,))


@pytest.fixture
def tree() -> VolumeTree:
    made = VolumeTree()
    made.apply({"runs/one/a.txt": A, "runs/one/b.txt": B, "top.txt": A})
    return made


def names(tree: VolumeTree, path: str = "", *, recursive: bool = True) -> list[str]:
    return [name for name, _ in tree.list(path, recursive=recursive)]


def test_listing_a_folder_a_file_and_the_root(tree: VolumeTree) -> None:
    assert names(tree) == ["runs", "runs/one", "runs/one/a.txt", "runs/one/b.txt", "top.txt"]
    assert names(tree, "/", recursive=False) == ["runs", "top.txt"]
    assert names(tree, "runs/", recursive=False) == ["runs/one"]
    assert names(tree, "/top.txt") == ["top.txt"]


def test_names_that_only_begin_alike_are_not_below(tree: VolumeTree) -> None:
    tree.apply({"runs2/x": A})
    assert names(tree, "runs") == ["runs/one", "runs/one/a.txt", "runs/one/b.txt"]
    tree.remove("runs", recursive=True)
    assert names(tree) == ["runs2", "runs2/x", "top.txt"]


def test_paths_cannot_climb_out() -> None:
    assert clean_path("//a/./b/") == "a/b"
    for path in ("../x", "a/../../x", "a\0b"):
        with pytest.raises(TreeError, match=r"must not|zero byte"):
            clean_path(path)


def test_what_is_missing_is_said(tree: VolumeTree) -> None:
    for call in (
        lambda: names(tree, "nope"),
        lambda: tree.file("nope"),
        lambda: tree.remove("nope", recursive=True),
        lambda: tree.copy(["nope"], "x", recursive=True, limit_bytes=None),
    ):
        with pytest.raises(TreeError) as caught:
            call()
        assert caught.value.kind == "missing"


def test_a_file_and_a_folder_cannot_take_each_others_place_in_an_upload(tree: VolumeTree) -> None:
    before = dict(tree.nodes)
    for puts in ({"new": A, "runs/one": A}, {"new": A, "top.txt/below": A}):
        with pytest.raises(TreeError):
            tree.apply(puts)
        assert tree.nodes == before, "all or nothing"


def test_a_commit_may_replace_a_folder_by_a_file_and_back(tree: VolumeTree) -> None:
    tree.apply({"runs": A}, replace_kind=True)
    assert names(tree) == ["runs", "top.txt"]
    tree.apply({"runs/two/x": B}, replace_kind=True)
    assert names(tree) == ["runs", "runs/two", "runs/two/x", "top.txt"]


def test_a_folder_with_another_writers_file_in_it_stays(tree: VolumeTree) -> None:
    tree.apply({}, ["runs", "runs/one", "runs/one/a.txt"])
    assert names(tree) == ["runs", "runs/one", "runs/one/b.txt", "top.txt"]
    assert isinstance(tree.nodes["runs/one"], FolderNode)


def test_a_full_volume_takes_less_but_not_more(tree: VolumeTree) -> None:
    with pytest.raises(TreeError) as caught:
        tree.apply({"more": B}, limit_bytes=12)
    assert caught.value.kind == "full"
    assert tree.total_bytes() == 11
    tree.apply({"more": A}, ["runs/one/b.txt"], limit_bytes=5)  # still over the limit, but less than before
    assert tree.total_bytes() == 9


def test_copying_follows_cp(tree: VolumeTree) -> None:
    tree.copy(["top.txt"], "runs", recursive=False, limit_bytes=None)
    tree.copy(["top.txt"], "renamed.txt", recursive=False, limit_bytes=None)
    tree.copy(["runs/one"], "copy", recursive=True, limit_bytes=None)
    tree.copy(["runs/one"], "copy", recursive=True, limit_bytes=None)
    assert names(tree, "copy") == [
        *("copy/a.txt", "copy/b.txt", "copy/one", "copy/one/a.txt", "copy/one/b.txt"),
    ]
    assert "runs/top.txt" in tree.nodes
    assert "renamed.txt" in tree.nodes
    with pytest.raises(TreeError, match="recursive"):
        tree.copy(["runs"], "other", recursive=False, limit_bytes=None)
    with pytest.raises(TreeError, match="not a directory"):
        tree.copy(["top.txt", "renamed.txt"], "nowhere", recursive=False, limit_bytes=None)


def test_links_are_followed_inside_the_volume() -> None:
    tree = VolumeTree()
    tree.apply({"runs/a": A, "runs/latest": LinkNode("a", 1), "loop": LinkNode("loop", 1)})
    assert tree.file("runs/latest") == A
    with pytest.raises(TreeError):
        tree.file("loop")
