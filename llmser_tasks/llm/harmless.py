"""Words that may stand around an answer, and words that turn it into its opposite: "anything but c03" names c03 too."""

from __future__ import annotations

import re

PLAIN = r"\s,;:.()\[\]{}\"'`*_#|•·/&+=>\\–—-"  # what stands around ids and takes nothing back, as ~~ and ! would
_TAG = re.compile(r"</?[a-z][a-z0-9]*/?>", re.I)
_WORD = re.compile(r"[^\W\d_]+")
_ODD = re.compile(rf"[^!\w{PLAIN}]|!\S")
# Words that may stand around ids; any other may mean the opposite, in whatever language.
_WORDS = """
    a also am an and answer answers are as best boxed candidate candidates choice choices choose chosen final first fit
    fits following for fourth good here i id ids in is it item items likeliest likely list likelihood masked match
    matches most my next of ok okay one ones order output pick picked picks predict predicted prediction product
    products ranking recommend recommendation recommendations recommended response result results second select selected
    selection so sure that the then these they think third this those title titles to top would yes you your
"""
_HARMLESS = frozenset(_WORDS.split())
REVERSES = re.compile(
    r"\b(?:not|no|never|none|neither|nor|cannot|except|exclud\w*|avoid\w*|reject\w*|instead|rather|unlikely|least|worst"
    r"|without|ignor\w*|other than|anything but|wrong|irrelevant|remov\w*|discard\w*|skip\w*|drop\w*|unsuitable"
    r"|dislike\w*|noise|noisy|between|compar\w*|consider\w*|versus|vs|or|if|unless|could|might|nicht|kein\w*|sin|pas|sauf)\b"
    r"|n['’]t\b|[不非除没無未]",
    re.I,
)


def harmless(text: str) -> bool:
    """Whether nothing in a text can take an answer back."""
    words = _WORD.findall(_TAG.sub(" ", text))
    return all(word.lower() in _HARMLESS for word in words) and not _ODD.search(_TAG.sub(" ", text))
