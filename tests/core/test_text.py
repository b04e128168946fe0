"""Titles come out as one line of visible text, whatever goes in."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmser_tasks.core.text import clean_title

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
    ' Magazines" />': "Magazines",
    'Men\'s "Best" Magazines" />': 'Men\'s "Best" Magazines',
    'alt="Soap & Water">': "Soap & Water",
    'a-size-medium a-color-base">Soap': "Soap",
    'Pan 12" > Pan 10"': 'Pan 12" > Pan 10"',
    "5\u00bd inches, J\u00b2, \u2460\u2461, Soap\u2122": "5\u00bd inches, J\u00b2, \u2460\u2461, Soap\u2122",
    "\u00bd \uff1cb\uff1e\uff21\u00b2\ufb01": "\u00bd A\u00b2fi",
    "e\u0301 \u00b2e\u0301": "\u00e9 \u00b2\u00e9",
    "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645": "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # Persian
    "\u0915\u094d\u200d\u0937 \u0915\u094d\u200c\u0937": "\u0915\u094d\u200d\u0937 \u0915\u094d\u200c\u0937",  # Hindi
    "\U0001f469\U0001f3fd\u200d\U0001f52c": "\U0001f469\U0001f3fd\u200d\U0001f52c",
    "\u2764\ufe0f\u200d\U0001f525": "\u2764\u200d\U0001f525",
    "so\u200dap \u200cand\u200d \u0645\u200d\u200d": "soap and \u0645",
    "\u0645\u202e\u200c\u062e": "\u0645\u200c\u062e",  # what reorders goes, what joins stays
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
    hidden = [c for c in title if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Co", "Cn"}]
    assert set(hidden) <= {"\u200c", "\u200d"}  # only where they join, see CLEANED
    assert unicodedata.is_normalized("NFC", title)
    other = ("<wide>", "<narrow>", "<small>", "<vertical>", "<font>", "<compat>", "<noBreak>")
    assert not any(unicodedata.decomposition(c).startswith(other) for c in title)
    assert clean_title(title, limit) == title
    title.encode()


@pytest.mark.parametrize(
    "piece", ["<a ", "&amp;", "amp;", "<script>", "{", "{:", "function(", "<!--", "var ", "&#38;lt;", " "]
)
def test_hostile_titles_cost_little(piece: str) -> None:
    started = time.process_time()
    clean_title("&" + piece * 100_000)
    assert time.process_time() - started < 0.5
