"""What the ingest report says, and the check that every line is accounted for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import duckdb

from llmser_tasks.core.config import Dataset
from llmser_tasks.core.errors import InputError
from llmser_tasks.ingest.details import Detail
from llmser_tasks.ingest.filtering import Counts
from llmser_tasks.ingest.reading import Read

SYNTHETIC = "SYN-"  # what every user id of a synthetic dump begins with
FEW_TITLES = 0.5  # share of items with a title below which people are warned
KEPT = ("synthetic", "source", "before", "after", "titles", "details", "ties", "quarantined")  # in the manifest
SHORT = 8  # the paper's Figure 1: above 80 % of users are shorter than this


def facts(
    connection: duckdb.DuckDBPyConnection,
    dataset: Dataset,
    reviews: Read,
    items: Read,
    counts: Counts,
    details: Sequence[Detail],
) -> dict[str, Any]:
    """Everything but the files, from tables `kept`, `users`, `items`, `titles` and view `item_numbers`.

    Counts `before` are of usable lines, duplicates included, as a dump's own description counts; `distinct` is what
    the filter saw. Density is interactions / (users × items). Lengths are interactions per user, held-out ones
    included; p80 is the smallest length that at least 80 % of users do not exceed.
    """
    one = connection.execute(
        "select (select count(*) from titles where title is not null), (select count(distinct title) from titles), "
        "(select sum(lines) from titles), (select count(*) from titles), "
        "(select count(*) from users where n > 0 and not starts_with(user_id, ?)), "
        "(select count(*) - (select count(*) from (select distinct user_id, item_id from kept)) from kept)",
        [SYNTHETIC],
    ).fetchone()
    assert one is not None
    with_title, different_titles, used_lines, found, real_users, repeats = (int(value or 0) for value in one)
    lengths = dict(connection.execute("select n, count(*) from users where n > 0 group by n order by n").fetchall())
    report: dict[str, Any] = {
        "dataset": dataset.name,
        "source": dataset.source,
        "synthetic": real_users == 0,
        "before": {
            "users": counts.users,
            "items": counts.items,
            "interactions": counts.lines,
            "distinct": counts.distinct,
        },
        "after": {
            "users": counts.kept_users,
            "items": counts.kept_items,
            "interactions": counts.kept,
            "density": counts.kept / (counts.kept_users * counts.kept_items),
        },
        "lengths": _lengths(lengths) | {"histogram": [[length, users] for length, users in lengths.items()]},
        "titles": {
            "with_title": with_title,
            "coverage": with_title / counts.kept_items,
            "different": different_titles,
            "no_line": counts.kept_items - found,
        },
        "details": _details(connection, counts, details),
        "repeat_purchases": repeats,
        "ties": _ties(connection, dataset, counts),
        "core_rounds": counts.rounds,
        "lines": {
            "reviews": {
                "read": reviews.lines,
                "kept": counts.kept,
                "duplicates": counts.lines - counts.distinct,
                "filtered": {"blank": reviews.blank} | counts.filtered,
                "quarantined": dict(sorted(reviews.quarantined.items())),
            },
            "items": {
                "read": items.lines,
                "kept": found,
                "duplicates": used_lines - found,
                "filtered": {"blank": items.blank, "item_not_kept": items.rows - used_lines},
                "quarantined": dict(sorted(items.quarantined.items())),
            },
        },
    }
    report["quarantined"] = [
        {"file": name, "what": what, "lines": count}
        for what, read in (("review", reviews), ("item", items))
        for name, count in sorted(read.files.items())
    ]
    for name, lines in report["lines"].items():
        reconcile(name, lines)
    return report


def _details(connection: duckdb.DuckDBPyConnection, counts: Counts, details: Sequence[Detail]) -> dict[str, float]:
    """Of each detail, the share of items that have it."""
    if not details:
        return {}
    columns = ", ".join(f'count("{detail.name}")' for detail in details)
    found = connection.execute(f"select {columns} from item_numbers").fetchone()  # noqa: S608, ours
    assert found is not None
    return {detail.name: int(have) / counts.kept_items for detail, have in zip(details, found, strict=True)}


def _ties(connection: duckdb.DuckDBPyConnection, dataset: Dataset, counts: Counts) -> dict[str, Any]:
    """How much of the order of interactions is left open by their times, and what decides it.

    `moments` are times at which a user has several interactions; `neighbours` is the share of pairs of successive
    interactions that share a time, `last_items` the share of users whose last one shares it with the one before.
    """
    one = connection.execute(
        "with moments as (select user_id, timestamp, count(*) as n from kept group by user_id, timestamp), "
        "last as (select arg_max(n, timestamp) as n from moments group by user_id) "
        "select count(*) filter (n > 1), sum(n - 1), (select count(*) from last where n > 1) from moments"
    ).fetchone()
    assert one is not None
    moments, neighbours, last = (int(value) for value in one)
    return {
        "order": dataset.ties,
        "moments": moments,
        "neighbours": neighbours / max(counts.kept - counts.kept_users, 1),
        "last_items": last / counts.kept_users,
    }


def reconcile(name: str, lines: Mapping[str, Any]) -> None:
    """lines read = kept + duplicates + filtered + quarantined, or ingest has a defect and must not go on."""
    accounted = (
        lines["kept"] + lines["duplicates"] + sum(lines["filtered"].values()) + sum(lines["quarantined"].values())
    )
    if lines["read"] != accounted:
        raise AssertionError(f"{name}: {lines['read']} lines read, {accounted} accounted for: {lines}")


def _lengths(histogram: Mapping[int, int]) -> dict[str, Any]:
    users = sum(histogram.values())

    def quantile(share: float) -> int:
        seen = 0
        for length, count in histogram.items():
            seen += count
            if seen >= share * users:
                return length
        return 0

    return {
        "min": min(histogram),
        "median": quantile(0.5),
        "p80": quantile(0.8),
        "max": max(histogram),
        "mean": round(sum(length * count for length, count in histogram.items()) / users, 3),
        "shorter_than_8": sum(count for length, count in histogram.items() if length < SHORT) / users,
    }


def summary(report: Mapping[str, Any]) -> dict[str, Any]:
    """The part that the manifest and the steps table keep."""
    reviews = report["lines"]["reviews"]
    return {
        **{key: report[key] for key in KEPT},
        "lengths": {key: value for key, value in report["lengths"].items() if key != "histogram"},
        "lines": reviews | {"quarantined": sum(reviews["quarantined"].values())},
    }


def line(name: str, summary: Mapping[str, Any]) -> str:
    """What a person reads of an ingest: how much is left, what it can be used for, what could not be read and where."""
    after, titles, ties = summary["after"], summary["titles"], summary["ties"]
    synthetic = " (SYNTHETIC)" if summary["synthetic"] else ""
    bad = ", ".join(f"{shown(row['file'])}: {row['lines']:,} {row['what']} lines" for row in summary["quarantined"])
    share = percent(ties["neighbours"])
    order = f"; {share} of neighbours share a time, ordered by {ties['order']}" if ties["moments"] else ""
    told = "".join(f", {detail} for {percent(share)}" for detail, share in summary["details"].items() if share)
    return (
        f"{name}{synthetic}: {after['users']:,} users, {after['items']:,} items, {after['interactions']:,} interactions"
        f" of {summary['lines']['read']:,} lines; titles for {percent(titles['coverage'])} of the items{told}{order};"
        f" quarantined {f'{bad} (see quarantine.parquet)' if bad else 'nothing'}"
    )


def warnings(name: str, summary: Mapping[str, Any]) -> list[str]:
    """What a person must not overlook."""
    titles, items = summary["titles"], summary["after"]["items"]
    if titles["coverage"] >= FEW_TITLES:
        return []
    return [
        f"Only {titles['with_title']:,} of {items:,} items of {name} have a title ({percent(titles['coverage'])}), and"
        f" about the others no LLM can be asked; {titles['no_line']:,} have no line in the item dump: check that it is"
        " the one that belongs to the reviews."
    ]


def percent(share: float) -> str:
    """A share that is neither 0 nor 1 never reads as if it were."""
    if 0 < share < 0.001 or 0.999 < share < 1:
        return "less than 0.1 %" if share < 0.5 else "more than 99.9 %"
    return f"{100 * share:.1f} %".replace(".0 %", " %")


def shown(text: str) -> str:
    """A name from outside, made safe for a terminal."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


def nothing_left(dataset: Dataset, reviews: Read, counts: Counts) -> InputError:
    """One sentence: how many were left after each stage, and which knob to turn."""
    left = counts.distinct
    stages = [f"{reviews.lines:,} lines", f"{counts.lines:,} usable", f"{left:,} without duplicates"]
    for knob, dropped in counts.filtered.items():
        left -= dropped
        value = "" if knob == "rating" else f" ≥ {getattr(dataset, knob)}"
        stages.append(f"{left:,} after {knob}{value}")
    hints = {
        "rating": "no rating is above 0: check that it is the review dump",
        "user_core": "lower user_core or take a larger dump",
        "item_core": "lower item_core or take a larger dump",
        "min_length": "every user is shorter than min_length: lower the cores or take a larger dump",
    }
    hint = hints[max(hints, key=lambda knob: counts.filtered[knob])]
    return InputError(
        f"Nothing is left of dataset {dataset.name} ({counts.users:,} users, {counts.items:,} items): "
        f"{' → '.join(stages)}; {hint}."
    )
