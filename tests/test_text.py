"""Titles come out as one line of visible text, whatever goes in."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmser_tasks.text import clean_title

CLEANED = {
    "Soap": "Soap",
    "  Soap \t\n and\u00a0\u3000water ": "Soap and water",
    "Salt &amp; Pepper": "Salt & Pepper",
    "Salt &amp;amp;amp; Pepper": "Salt & Pepper",
    "<b>Bold</b> move": "Bold move",
    "&lt;i&gt;hidden&lt;/i&gt; markup": "hidden markup",
    "\uff1cscript\uff1ealert(1)\uff1c/script\uff1e": None,
    "5 < 6 oz > 3, I <3 it": "5 < 6 oz > 3, I <3 it",
    "\ufb01ne \uff21\uff22": "fine AB",
    "safe\u202egnp.exe": "safegnp.exe",
    "zero\u200bwidth\u2060\ufeff": "zerowidth",
    "tag\U000e0041\U000e0042s \U000e0100\ufe0f": "tags",
    "nul\x00 bell\x07 \x1b[31mred": "nul bell [31mred",
    "lone \ud800 surrogate": "lone surrogate",
    '<span class="a-size-medium a-color-secondary"></span>': None,
    '<span class="a-size-medium': None,
    "<!-- comment": None,
    "<script>var x = 1;</script>": None,
    "<style>.a{b:c}</style>Soap": "Soap",
    "var aPageStart = (new Date()).getTime();\nvar ue_t0=ue_t0||+new Date();": None,
    "#prodImage { width: 10px; }": None,
    "": None,
    "   ": None,
    "\u200b": None,
    "Men (2 Pack) = {great}": "Men (2 Pack) = {great}",
    "Caf\u00e9 \u5bff\u53f8 \U0001f363": "Caf\u00e9 \u5bff\u53f8 \U0001f363",
}


@pytest.mark.parametrize("raw", CLEANED)
def test_cleaned(raw: str) -> None:
    assert clean_title(raw) == CLEANED[raw]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (None, None),
        (["", None, "<br>", "First", "Second"], "First"),
        ([], None),
        ([["nested"]], None),
        ({"title": "x"}, None),
        (True, None),
        (1984, "1984"),
        (b"bytes", None),
    ],
)
def test_what_is_no_string(raw: object, expected: str | None) -> None:
    assert clean_title(raw) == expected


def test_the_limit_cuts() -> None:
    assert clean_title("abc def", 4) == "abc"
    assert clean_title("x" * 1000) == "x" * 500
    assert clean_title("\ufdfa" * 400, 100) is not None  # one character that normalises to eighteen
    assert len(clean_title("\ufdfa" * 400, 100) or "") <= 100


PIECES = st.sampled_from(
    [
        "<",
        ">",
        "&",
        ";",
        "lt",
        "gt",
        "amp",
        "#60",
        "b",
        "/",
        "!--",
        "script",
        " ",
        "=",
        '"',
        "\u202e",
        "\uff1c",
        "x",
        "{:;}",
    ]
)


@given(st.one_of(st.text(), st.lists(PIECES, max_size=40).map("".join)), st.integers(1, 60))
def test_every_title_is_one_short_visible_normal_line_and_stays_so(raw: str, limit: int) -> None:
    title = clean_title(raw, limit)
    if title is None:
        return
    assert 0 < len(title) <= limit
    assert title == " ".join(title.split())
    assert not any(unicodedata.category(c) in {"Cc", "Cf", "Cs", "Co", "Cn"} for c in title)
    assert unicodedata.is_normalized("NFKC", title)
    assert clean_title(title, limit) == title
    title.encode()


@pytest.mark.parametrize(
    "piece", ["<a ", "&amp;", "amp;", "<script>", "{", "{:", "function(", "<!--", "var ", "&#38;lt;", " "]
)
def test_hostile_titles_cost_little(piece: str) -> None:
    started = time.process_time()
    clean_title("&" + piece * 100_000)
    assert time.process_time() - started < 0.5
