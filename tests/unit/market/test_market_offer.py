"""CUDA versions are compared as numbers, not as words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.market.domain.offer import cuda_rank


def test_versions_are_ordered_by_major_and_minor() -> None:
    mixed = ["12.10", "9.2", "13", "", "12.1", "11.8"]
    assert sorted(mixed, key=cuda_rank) == ["", "9.2", "11.8", "12.1", "12.10", "13"]


def test_patch_levels_do_not_count() -> None:
    assert cuda_rank("12.1.1") == cuda_rank("12.1")


@pytest.mark.parametrize("words", ["", "none", "x.1", "12.x", "１２.1", "."])
def test_what_is_no_version_supports_nothing(words: str) -> None:
    assert cuda_rank(words) == 0


@given(words=st.text(max_size=60))
def test_no_words_break_it(words: str) -> None:
    assert 0 <= cuda_rank(words) <= 9_999_999
