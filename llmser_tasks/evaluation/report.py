"""The report: one self-contained HTML file for a person who wants to judge a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from statistics import fmean, stdev
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray

from llmser_tasks import __version__
from llmser_tasks.asking.questions import asked_steps
from llmser_tasks.core.config import RunConfig, parameters, to_flat
from llmser_tasks.core.decimals import decimal, signed
from llmser_tasks.core.kinds import BACKBONES, METHODS, REFERENCE, Method, reported
from llmser_tasks.core.names import (
    BY_PART,
    CONDITIONAL,
    INTERVALS,
    OF_ITEM_MAPS,
    ONE_SEED,
    SHOWN_TRIED,
    about_item_map,
    what_was_tried,
    why_chosen,
)
from llmser_tasks.evaluation import figures
from llmser_tasks.evaluation.examples import Example
from llmser_tasks.evaluation.groups import COLD
from llmser_tasks.evaluation.ladder import beside_reference
from llmser_tasks.evaluation.metrics import METRICS
from llmser_tasks.evaluation.protocols import FULL, uniform
from llmser_tasks.evaluation.significance import in_percent, verdict
from llmser_tasks.ingest.report import FEW_TITLES

TILES = {"all": "All users", "tail users": "Tail users", "head users": "Head users", "tail items": "Tail items"}
USER_KINDS = ("tail users", "head users", "tail items", "head items")
EMBEDDED = "llmser_ranker"  # the connection of the project's own ranker …
RANKER = "embedding-ranker"  # … and the name under which it answers

Values = dict[tuple[str, str, str, str], list[float]]  # (method, protocol, group, metric) → one value per seed


@dataclass(frozen=True)
class Trust:
    """How far pseudo items are trusted.

    Attributes:
        omega, hit, compared: (U,) per training user, see `figures.reliability`.
        examples: a few users in full.
    """

    omega: NDArray[np.float64]
    hit: NDArray[np.bool_]
    compared: NDArray[np.bool_]
    examples: Sequence[Example]


@dataclass(frozen=True)
class Report:
    """Everything a report is made from.

    Attributes:
        facts: facts.json of the evaluation.
        metrics, comparisons: rows of metrics.parquet and comparisons.parquet.
        trust: None if no method of the run has pseudo items.
        ingest: the ingest report.
        answered_by: per name under which the endpoint answered, how many questions.
        costs: rows of the view run_costs.
        asked: per step how many users it was about (`users`), and of how many there was something to ask (`asked`).
        places: per method each item's x, y and whether it is a head item, as its map shows it (`item_maps`).
        searched: what a search came to, as its step sums it up; None: there was none.
    """

    run_id: str
    config: RunConfig
    started: str
    synthetic: bool
    facts: Mapping[str, Any]
    metrics: Sequence[Mapping[str, Any]]
    comparisons: Sequence[Mapping[str, Any]]
    trust: Trust | None
    ingest: Mapping[str, Any]
    answered_by: Mapping[str, int] = field(default_factory=dict)
    costs: Sequence[Mapping[str, Any]] = ()
    asked: Sequence[Mapping[str, Any]] = ()
    places: Mapping[str, Sequence[tuple[float, float, bool]]] = field(default_factory=dict)
    searched: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Cell:
    """One number of a table: mean and sd over the seeds (None where they agree); best of its column; its stars."""

    mean: float
    deviation: float | None
    best: bool = False
    stars: str = ""


def render(report: Report) -> str:
    """The HTML of a report. Every text from dumps, LLMs or settings is escaped; nothing is loaded from anywhere."""
    values = _values(report.metrics)
    methods = reported({row["method"] for row in report.metrics})
    compared = {(row["method"], row["protocol"], row["user_group"], row["metric"]): row for row in report.comparisons}
    groups = report.facts["groups"]
    tested = [group for group in groups if group != COLD]
    legacy = uniform(report.config.evaluation.sampled_negatives)
    tailed = [group for group in USER_KINDS if group in groups]
    ours = beside_reference(report.facts["chosen"], report.facts["validation"])
    rungs = report.facts.get("rungs", [])  # earlier evaluations have none
    differing = [compared[ours, FULL, group, "N@10"] for group in tested] if ours != REFERENCE else []
    counter = _best_counter(values, methods)
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            run=report,
            version=__version__,
            endpoint=report.config.llm.endpoint,
            embedded=_is_embedded(report),
            asks=_asks(report),
            few_titles=FEW_TITLES,
            backbone=BACKBONES[report.config.recommender.backbone].title,
            published=_published(report),
            reference=METHODS[REFERENCE],
            ours=METHODS[ours],
            compared_methods={name: METHODS[name] for name in methods if (name, FULL, "all", "N@10") in compared},
            tiles=[(title, compared[ours, FULL, group, "N@10"]) for group, title in TILES.items() if group in groups]
            if differing
            else [],
            beaten_by=[METHODS[name].heading for name in methods if _beats(values, name, ours)],
            metrics=METRICS,
            groups=groups,
            tested=tested,
            cold=COLD,
            tables={protocol: _table(values, compared, groups, protocol, methods) for protocol in (FULL, legacy)},
            full=FULL,
            legacy=legacy,
            compared=compared,
            one_seed=ONE_SEED if len(report.facts["seeds"]) == 1 else "",
            conditional=CONDITIONAL,
            intervals=INTERVALS,
            level=in_percent(report.comparisons[0]["level"]) if report.comparisons else "",
            rungs=rungs,
            by_part=BY_PART,
            of_item_maps=OF_ITEM_MAPS,
            told_of_search=what_was_tried(report.searched) if report.searched else "",
            shown_tried=SHOWN_TRIED,
            rungs_level=in_percent(rungs[0]["level"]) if rungs else "",
            fewest=figures.FEWEST,
            counter=METHODS[counter].title if counter else "",
            figures={
                "lengths": figures.lengths(report.facts["lengths"], report.facts["tail_threshold"]),
                "tail_and_head": figures.tail_and_head(
                    [_bars(values, methods, group) for group in tailed], ours, counter
                ),
                "differences": figures.differences(differing) if differing else "",
                "waterfalls": {
                    TILES[group]: figures.waterfall([row for row in rungs if row["user_group"] == group])
                    for group in dict.fromkeys(row["user_group"] for row in rungs)
                },
                "item_maps": {METHODS[row["method"]].heading: _item_map(report, row) for row in _maps(report)},
                "reliability": figures.reliability(report.trust.omega, report.trust.hit, report.trust.compared)
                if report.trust
                else "",
            },
            omega=_shares(report.trust) if report.trust else {},
            settings=_settings(report.config),
            sources=Counter(
                source for example in (report.trust.examples if report.trust else ()) for _, source in example.pseudo
            ),
        )
    )


def _maps(report: Report) -> list[Mapping[str, Any]]:
    """Earlier evaluations have none; and of a table that could not be drawn there is none."""
    return [row for row in report.facts.get("item_maps", ()) if row["method"] in report.places]


def _item_map(report: Report, row: Mapping[str, Any]) -> tuple[str, str]:
    """Picture and caption."""
    told = about_item_map(row["shares"], row["silhouette"], row["overlap"], row["chance"])
    return figures.item_map(report.places[row["method"]], told), told


def _published(report: Report) -> str:
    """Which method's recommendations the run has, and why."""
    title = METHODS[report.facts["chosen"]].title
    return f"Recommendations are those of {title}, {why_chosen(report.facts['chosen_by'], report.facts['validation'])}."


def _values(metrics: Iterable[Mapping[str, Any]]) -> Values:
    values: Values = {}
    for row in metrics:
        values.setdefault((row["method"], row["protocol"], row["user_group"], row["metric"]), []).append(row["value"])
    return values


def _bars(values: Values, methods: Iterable[str], group: str) -> tuple[str, dict[str, tuple[float, float]]]:
    """Label of a group and, per method, mean and sd of its NDCG@10."""
    return group.replace(" ", "\n"), {name: _moments(values[name, FULL, group, "N@10"]) for name in methods}


def _moments(values: Sequence[float]) -> tuple[float, float]:
    return fmean(values), stdev(values) if len(values) > 1 else 0.0


def _table(
    values: Values,
    compared: Mapping[tuple[str, str, str, str], Mapping[str, Any]],
    groups: Iterable[str],
    protocol: str,
    methods: Mapping[str, Method],
) -> dict[str, dict[str, dict[str, Cell]]]:
    """group → method's title → metric → cell."""
    table: dict[str, dict[str, dict[str, Cell]]] = {}
    for group in groups:
        rows: dict[str, dict[str, Cell]] = {method.heading: {} for method in methods.values()}
        for metric in METRICS:
            seen = {name: values[name, protocol, group, metric] for name in methods}
            best = max(fmean(of_seeds) for of_seeds in seen.values())
            for name, method in methods.items():
                mean, deviation = _moments(seen[name])
                stars = compared.get((name, protocol, group, metric), {"stars": ""})["stars"]
                rows[method.heading][metric] = Cell(mean, deviation or None, best=mean == best > 0, stars=stars)
        table[group] = rows
    return table


def _overall(values: Values, method: str) -> float:
    return fmean(values[method, FULL, "all", "N@10"])


def _beats(values: Values, method: str, ours: str) -> bool:
    """Whether an untrained counter is better than ours over all users."""
    return not METHODS[method].trained and _overall(values, method) > _overall(values, ours)


def _best_counter(values: Values, methods: Mapping[str, Method]) -> str | None:
    counters = [name for name, method in methods.items() if not method.trained and method.charted]
    return max(counters, key=lambda name: _overall(values, name), default=None)


def _shares(trust: Trust) -> dict[str, float]:
    """What the ω histogram says, in numbers."""
    return {
        "mean": float(trust.omega.mean()) if len(trust.omega) else 0.0,
        "compared": float(trust.compared.mean()) if len(trust.omega) else 0.0,
        "hit": float(trust.hit[trust.compared].mean()) if trust.compared.any() else 0.0,
    }


def _is_embedded(report: Report) -> bool:
    """Whether the embedding ranker answered; before any answer, whether it would be asked."""
    if report.answered_by:
        return any(name.startswith(RANKER) for name in report.answered_by)
    return report.config.llm.endpoint == EMBEDDED


def _asks(report: Report) -> bool:
    """Whether anything was asked; while that is not known, whether the run has questions."""
    if report.asked:
        return any(row["asked"] for row in report.asked)
    return bool(asked_steps(report.config))


def _settings(config: RunConfig) -> list[tuple[str, str, str, str]]:
    """Section, name, value and description of every knob; credentials are never settings."""
    flat = to_flat(config)
    return [(knob.section, knob.name, str(flat[knob.name]), knob.description) for knob in parameters()]


def change(row: Mapping[str, Any]) -> str:
    """Relative difference to the reference."""
    reference = row["reference_mean"]
    return f"{100 * row['difference'] / reference:+.1f} %".replace("-", "−") if reference else "new"


def tone(row: Mapping[str, Any]) -> str:
    """The colour of a difference; only a significant one has one."""
    return "" if not row["stars"] else "up" if row["difference"] > 0 else "down"


def number(value: float | int) -> str:
    return f"{value:,}"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("llmser_tasks.evaluation", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"decimal": decimal, "signed": signed, "change": change, "number": number}
    environment.filters |= {"tone": tone, "verdict": verdict}
    return environment
