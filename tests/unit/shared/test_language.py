"""The caller is answered in Chinese or English, as asked."""

import pytest

from shared.text import Text, preferred_language


@pytest.mark.parametrize(
    ("header", "language"),
    [
        (None, "zh"),
        ("", "zh"),
        ("en", "en"),
        ("en-GB,zh;q=0.5", "en"),
        ("en;q=0.3, zh-CN;q=0.9", "zh"),
        ("fr, en;q=0.1", "en"),
        ("fr", "zh"),
        ("en;q=broken", "zh"),
    ],
)
def test_the_accept_language_header_chooses(header: str | None, language: str) -> None:
    assert preferred_language(header) == language


def test_a_text_inside_a_text_is_rendered_in_the_same_language() -> None:
    outer = Text("状态：{state}", "state: {state}")
    state = Text("待审核", "pending")
    assert outer.render("zh", state=state) == "状态：待审核"
    assert outer.render("en", state=state) == "state: pending"
