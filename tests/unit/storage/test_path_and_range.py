"""What a tenant may name, and which bytes a range means."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.storage.domain.byte_range import ByteRange, parse_range
from services.storage.domain.path import join, parse, parse_posix
from services.storage.errors import BadPath, RangeNotSatisfiable


@pytest.mark.parametrize(
    "path",
    ["", "a", "../a", "/..", "/a/../b", "/./a", "//a", "/a//b", "/a\0", "/" + "x" * 256, "/\ud800"],
)
def test_a_path_that_is_not_plain_is_refused(path: str) -> None:
    with pytest.raises(BadPath):
        parse(path)


@given(st.lists(st.from_regex(r"[^/\0.][^/\0]{0,20}", fullmatch=True), max_size=8))
def test_a_plain_path_is_its_names(names: list[str]) -> None:
    try:
        assert parse(join(tuple(names))) == tuple(names)
    except BadPath:
        assert any("\ud800" <= c <= "\udfff" for name in names for c in name)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("bytes=0-0", ByteRange(0, 0)),
        ("bytes=2-", ByteRange(2, 9)),
        ("bytes=-3", ByteRange(7, 9)),
        ("bytes=-30", ByteRange(0, 9)),
        ("bytes=5-99", ByteRange(5, 9)),
        ("bytes=0-1,3-4", None),
        ("bytes=4-2", None),
        ("bytes=-", None),
        ("lines=1-2", None),
        ("bytes=x-y", None),
    ],
)
def test_a_range_of_ten_bytes(header: str | None, expected: ByteRange | None) -> None:
    assert parse_range(header, 10) == expected


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=-0", "bytes=99-100"])
def test_a_range_past_the_end_is_refused(header: str) -> None:
    with pytest.raises(RangeNotSatisfiable):
        parse_range(header, 10)


@pytest.mark.parametrize(
    ("path", "names"),
    [
        (b".", ()),
        (b"", ()),
        (b"/", ()),
        (b"//a//b/", ("a", "b")),
        (b"../../etc/passwd", ("etc", "passwd")),
        (b"a/../b", ("b",)),
        (b"/a/./b/..", ("a",)),
    ],
)
def test_a_path_of_a_file_protocol_never_climbs_above_the_top(
    path: bytes, names: tuple[str, ...]
) -> None:
    assert parse_posix(path) == names


def test_bytes_that_are_no_utf8_keep_their_identity() -> None:
    assert [os.fsencode(n) for n in parse_posix(b"\xff/\xfe")] == [b"\xff", b"\xfe"]


@pytest.mark.parametrize("path", [b"a\0b", b"x" * 256, b"a/" * 4001])
def test_a_path_that_no_disk_takes_is_refused(path: bytes) -> None:
    with pytest.raises(BadPath):
        parse_posix(path)
