"""Metrics as the papers write them."""

from __future__ import annotations


def decimal(value: float | None, places: int = 4) -> str:
    """.0834, as the papers write it."""
    if value is None:
        return "–"
    text = f"{value:.{places}f}"
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text


def signed(value: float) -> str:
    return ("+" if value >= 0 else "−") + decimal(abs(value))
