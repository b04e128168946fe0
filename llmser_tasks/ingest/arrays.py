"""A JSON array as a stream of its elements, each as the bytes that it has in the file: memory is one element."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO

from llmser_tasks.ingest.dumps import BLOCK, LONGEST_LINE, BrokenOff

BEGINS = re.compile(rb"(?:\xef\xbb\xbf)?\s*\[\s*(?:[\[{]|\]\s*$|$)")  # of objects; a line may hold a list of numbers
_MARKS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{}]', re.S)  # whole strings, so that no bracket in one counts
_BETWEEN = b" \t\r\n,"


def elements(content: IO[bytes], block: int = BLOCK, longest: int = LONGEST_LINE) -> Iterator[list[bytes]]:
    """Lists of the array's elements. What is between them and is no element comes as one, for the quarantine.

    Raises:
        BrokenOff: the array has no end, or an element has none within `longest` bytes: a bracket or quote is missing.
    """
    held = b""  # from the start of the element that is not whole yet
    begun = ended = False
    while data := content.read(max(block, len(held))):  # doubled each time: each byte is looked at a few times at most
        held += data
        if not begun:
            start = held.find(b"[")
            if start < 0:
                continue
            held, begun = held[start + 1 :], True
        if not ended:
            found, held, ended = _cut(held)
            yield found
        if ended and held.strip():
            raise BrokenOff("something follows the end of the array")
        if len(held) > longest:
            raise BrokenOff(f"an element has no end within {longest >> 20} MiB")
    if not ended:
        raise BrokenOff("the array has no end")


def _cut(held: bytes) -> tuple[list[bytes], bytes, bool]:
    """The whole elements of a piece, what is left of it, and whether the array ended."""
    found: list[bytes] = []
    depth = place = after = 0
    while mark := _MARKS.search(held, place):
        if held.find(b'"', place, mark.start()) >= 0:
            break  # a string that ends in a later piece
        kind = held[mark.start() : mark.start() + 1]
        place = mark.end()
        if not depth and kind in b"[{]}" and (stray := held[after : mark.start()].strip(_BETWEEN)):
            found.append(stray)
        if kind in b"[{":
            after = after if depth else mark.start()
            depth += 1
        elif kind in b"]}" and not depth:
            return found, held[place:], True
        elif kind in b"]}":
            depth -= 1
            if not depth:
                found.append(held[after:place])
                after = place
    return found, held[after:], False
