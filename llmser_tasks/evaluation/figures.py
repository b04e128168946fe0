"""The report's figures as inline SVG that takes colours and font from the page, so they are readable in light and dark.
They hold numbers and fixed words only: no text from dumps or LLMs.
"""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from matplotlib import rc, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from llmser_tasks.core.decimals import decimal, signed
from llmser_tasks.core.kinds import METHODS, REFERENCE
from llmser_tasks.core.names import titles_of_parts

REFERENCE_TITLE = METHODS[REFERENCE].title
# Stand-ins that matplotlib can draw with; each becomes the page's own colour of that name.
INK, MUTED, LINE, PLAIN, OURS, SOFT, THIRD, BAD = (f"#0{n}0{n}0{n}" for n in range(1, 9))
COLOURS = {INK: "ink", MUTED: "muted", LINE: "line", PLAIN: "plain"}
COLOURS |= {OURS: "ours", SOFT: "soft", THIRD: "third", BAD: "bad"}
SIZE = (5.8, 3.5)
FEWEST = 50  # a mean over fewer test users is noise, and is not drawn


def lengths(rows: Sequence[Mapping[str, Any]], tail_threshold: int) -> str:
    """The paper's Figure 1: how many users have n_u items, and how well the reference serves them."""
    with _figure("lengths") as (figure, axes):
        last = max((row["n"] for row in rows if row["users"]), default=1)
        shown = [row for row in rows if row["n"] <= last]
        n = [row["n"] for row in shown]
        colours = [OURS if length <= tail_threshold else PLAIN for length in n]
        axes.bar(n, [row["users"] for row in shown], color=colours, width=0.8)
        axes.set_xlabel("items in the training history, n")
        axes.set_ylabel("users")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        step = max(1, last // 10)
        axes.set_xticks([1, *range(step if step > 1 else 2, last + 1, step)])
        if last == rows[-1]["n"]:
            axes.set_xticks(axes.get_xticks(), [*(f"{tick:.0f}" for tick in axes.get_xticks()[:-1]), f"{last}+"])
        measured = [row for row in shown if row["test_users"] >= FEWEST]
        right = axes.twinx()
        _plain(right)
        right.plot([row["n"] for row in measured], [row["N@10"] for row in measured], "o-", color=INK, lw=1.4, ms=3.5)
        right.set_ylabel(f"NDCG@10 of the {REFERENCE_TITLE}", color=INK)
        right.set_ylim(bottom=0)
        right.yaxis.set_major_formatter(lambda value, _: _decimal(value))
        return _svg(figure, f"Users per length of their history, and NDCG@10 of the {REFERENCE_TITLE} per length")


def tail_and_head(
    groups: Sequence[tuple[str, Mapping[str, tuple[float, float]]]], ours: str, counter: str | None
) -> str:
    """NDCG@10 of the reference and another method side by side, mean and sd over seeds, with a counter as a mark.

    Args:
        groups: label, and per method mean and sd.
        ours: the other method; the reference itself if there is no other.
    """
    with _figure("tail-head") as (figure, axes):
        place = np.arange(len(groups))
        for method, offset, colour in dict.fromkeys(((REFERENCE, -0.2, PLAIN), (ours, 0.2, OURS))):
            means, deviations = zip(*(values[method] for _, values in groups), strict=True)
            axes.bar(place + offset, means, 0.36, color=colour, label=method)
            if any(deviations):
                axes.errorbar(place + offset, means, deviations, fmt="none", ecolor=INK, elinewidth=1, capsize=2.5)
        if counter is not None:
            counted = [values[counter][0] for _, values in groups]
            axes.hlines(counted, place - 0.42, place + 0.42, color=THIRD, lw=1.6, linestyles=(0, (3, 2)))
        for at, (_, values) in zip(place, groups, strict=True):
            before, now = values[REFERENCE][0], values[ours][0]
            if before > 0:
                top = max(mean + deviation for mean, deviation in values.values())
                _above(axes, float(at), top, f"{100 * (now / before - 1):+.1f} %".replace("-", "−"))
        axes.set_xticks(place, [label for label, _ in groups])
        axes.tick_params(axis="x", length=0)
        axes.margins(y=0.14)
        axes.set_ylim(bottom=0)
        axes.set_ylabel("NDCG@10")
        axes.yaxis.set_major_formatter(lambda value, _: _decimal(value))
        return _svg(figure, f"NDCG@10 of {REFERENCE_TITLE} and {METHODS[ours].title} for tail and head users and items")


def differences(rows: Sequence[Mapping[str, Any]]) -> str:
    """Method − reference in NDCG@10 per user group, with its interval; filled where the difference has stars."""
    with _figure("differences") as (figure, axes):
        place = np.arange(len(rows))[::-1]
        axes.axvline(0, color=MUTED, lw=1)
        for at, row in zip(place, rows, strict=True):
            axes.plot([row["low"], row["high"]], [at, at], color=OURS, lw=2, solid_capstyle="round")
            fill = OURS if row["stars"] else SOFT
            axes.plot(row["difference"], at, "o", ms=6.5, color=OURS, markerfacecolor=fill, mew=1.6)
        axes.set_yticks(place, [row["user_group"] for row in rows])
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(-0.7, len(rows) - 0.3)
        axes.set_xlabel(f"{METHODS[rows[0]['method']].title} − {REFERENCE_TITLE}, NDCG@10")
        axes.xaxis.set_major_formatter(lambda value, _: _decimal(value))
        axes.grid(axis="y", visible=False)
        axes.grid(axis="x", color=LINE, lw=0.8)
        return _svg(figure, "Difference in NDCG@10 per user group with intervals")


def waterfall(rows: Sequence[Mapping[str, Any]]) -> str:
    """NDCG@10 from the reference up to a method, part by part, each with its interval; in colour where the difference
    has stars.

    Args:
        rows: of one group, from the reference up (`ladder.climb`).
    """
    labels = [" ".join(f"+\N{NO-BREAK SPACE}{title}" for title in titles_of_parts(row["added"])) for row in rows]
    start, end = rows[0]["previous_mean"], rows[-1]["mean"]
    with _figure(f"waterfall {rows[0]['user_group']}") as (figure, axes):
        axes.use_sticky_edges = False  # or no margin below a bar
        for at, row in enumerate(rows, start=1):
            before, colour = row["previous_mean"], OURS if row["difference"] > 0 else BAD
            fill, edge = (colour, colour) if row["stars"] else (SOFT, PLAIN)
            axes.bar(at, row["difference"], 0.62, before, color=fill, edgecolor=edge, lw=1.6)
            axes.vlines(at, before + row["low"], before + row["high"], color=INK, lw=1.2)
            _above(axes, at, before + max(row["high"], 0.0), signed(row["difference"]) + row["stars"])
        for at, level, colour in ((0, start, PLAIN), (len(rows) + 1, end, INK)):
            axes.hlines(level, at - 0.31, at + 0.31, color=colour, lw=4)
            _above(axes, at, level, decimal(level))
        levels = [start, *(row["mean"] for row in rows)]
        axes.hlines(levels, np.arange(len(levels)), np.arange(len(levels)) + 1, color=MUTED, lw=0.8, zorder=0.5)
        ticks = [REFERENCE_TITLE, *labels, "together"]
        axes.set_xticks(range(len(ticks)), [textwrap.fill(label, 60 // len(ticks)) for label in ticks])
        axes.tick_params(axis="x", length=0)
        axes.margins(y=0.16)
        axes.set_ylabel("NDCG@10")
        axes.yaxis.set_major_formatter(lambda value, _: _decimal(value))
        told = [
            f"{label}: {signed(row['difference'])} ({signed(row['low'])} to {signed(row['high'])})"
            for label, row in zip(labels, rows, strict=True)
        ]
        parts = "; ".join([f"{REFERENCE_TITLE} {decimal(start)}", *told, f"together {decimal(end)}"])
        return _svg(figure, f"What each part adds to NDCG@10, {rows[0]['user_group']}. {parts}")


def reliability(omega: NDArray[np.float64], hit: NDArray[np.bool_], compared: NDArray[np.bool_]) -> str:
    """Histogram of ω over the training users.

    Args:
        omega: (U,).
        hit: (U,) the named item is the masked one.
        compared: (U,) a named title was compared with the masked one.
    """
    with _figure("omega") as (figure, axes):
        edges = np.linspace(0, 1, 21).tolist()
        parts = [omega[~compared], omega[compared & ~hit], omega[compared & hit]]
        axes.hist(parts, edges, stacked=True, color=[LINE, PLAIN, OURS], rwidth=0.9)
        axes.set_xlim(-0.02, 1.02)
        axes.set_xlabel("reliability ω")
        axes.set_ylabel("users")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        return _svg(figure, "Histogram of the reliability ω over users")


def item_map(places: Sequence[tuple[float, float, bool]], told: str) -> str:
    """Items as dots, head items over tail items. Written by hand, a group of dots as one path of lines without length:
    thousands of dots would be a megabyte otherwise. They need round ends, which another figure's style sheet would take
    from all paths of the page that do not insist.

    Args:
        places: x and y from -1 to 1, and whether it is a head item.
        told: what it shows.
    """
    paths = ""
    for head, colour in ((False, OURS), (True, THIRD)):
        dots = "".join(f"M{x:g} {-y:g}h0" for x, y, is_head in places if is_head == head)
        paths += f'<path d="{dots}" style="stroke:var(--{COLOURS[colour]});stroke-linecap:round"/>' if dots else ""
    style = 'fill="none" stroke-width=".032" stroke-opacity=".7"'
    box = 'viewBox="-1.03 -1.03 2.06 2.06"'
    return f'<svg role="img" aria-label="{told}" {box} {style}>{paths}</svg>'


@contextmanager
def _figure(name: str) -> Iterator[tuple[Figure, Axes]]:
    """A figure without global state; `name` keeps the ids inside its SVG apart from the others'."""
    with rc_context():
        rc("svg", fonttype="none", hashsalt=name)
        rc("font", size=10.5)
        rc("axes", edgecolor=MUTED, labelcolor=MUTED)
        rc("xtick", color=MUTED)
        rc("ytick", color=MUTED)
        rc("text", color=INK)
        figure = Figure(figsize=SIZE, layout="constrained")
        axes = figure.subplots()
        _plain(axes)
        axes.set_axisbelow(True)
        axes.grid(axis="y", color=LINE, lw=0.8)
        yield figure, axes


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.patch.set_visible(False)


def _svg(figure: Figure, description: str) -> str:
    buffer = io.StringIO()
    metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=metadata)
    drawn = buffer.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    drawn = re.sub(r"<metadata>.*?</metadata>", "", drawn, flags=re.S)
    drawn = re.sub(r' (?:width|height)="[\d.]+pt"', "", drawn, count=2)
    drawn = re.sub(r"(font: [^;\"]*?\d+px) [^;\"]+", r"\1 var(--font)", drawn)
    for stand_in, name in COLOURS.items():
        drawn = drawn.replace(stand_in, f"var(--{name})")
    return drawn.replace("<svg", f'<svg role="img" aria-label="{description}"', 1)


def _above(axes: Axes, at: float, top: float, words: str) -> None:
    axes.annotate(words, (at, top), (0, 5), textcoords="offset points", ha="center", color=INK)


def _decimal(value: float) -> str:
    """.05 as the papers write it."""
    text = f"{value:.4f}".rstrip("0").rstrip(".")
    return re.sub(r"^(-?)0\.", r"\1.", text) or "0"
