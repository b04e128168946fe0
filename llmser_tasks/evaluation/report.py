"""The report: one HTML file that holds everything, for a person who wants to judge a run."""

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
from llmser_tasks.core.config import RunConfig, parameters, to_flat
from llmser_tasks.core.kinds import BACKBONES, METHODS, QUESTION_STEPS, reported
from llmser_tasks.core.names import CONDITIONAL, INTERVALS, ONE_SEED
from llmser_tasks.evaluation import figures
from llmser_tasks.evaluation.examples import Example
from llmser_tasks.evaluation.metrics import METRICS
from llmser_tasks.evaluation.protocols import FULL, uniform
from llmser_tasks.evaluation.significance import in_percent, verdict
from llmser_tasks.ingest.report import FEW_TITLES

MODELS = {name: method.heading for name, method in reported().items()}
TILES = {"all": "All users", "tail users": "Tail users", "head users": "Head users", "tail items": "Tail items"}
USER_KINDS = ("tail users", "head users", "tail items", "head items")
EMBEDDED = "llmser_ranker"  # the connection of the project's own ranker …
RANKER = "embedding-ranker"  # … and the name under which it answers

Values = dict[tuple[str, str, str, str], list[float]]  # (model, protocol, group, metric) → one value per seed


@dataclass(frozen=True)
class Report:
    """What a report is made from.

    Attributes:
        facts: facts.json of the evaluation.
        metrics, comparisons: rows of metrics.parquet and comparisons.parquet.
        omega, hit, compared: (U,) per training user, see `figures.reliability`.
        ingest: the ingest report.
        answered_by: per name under which the endpoint answered, how many questions.
        costs: rows of the view run_costs.
        asked: per step how many users it was about (`users`), and of how many there was something to ask (`asked`).
    """

    run_id: str
    config: RunConfig
    started: str
    synthetic: bool
    facts: Mapping[str, Any]
    metrics: Sequence[Mapping[str, Any]]
    comparisons: Sequence[Mapping[str, Any]]
    omega: NDArray[np.float64]
    hit: NDArray[np.bool_]
    compared: NDArray[np.bool_]
    examples: Sequence[Example]
    ingest: Mapping[str, Any]
    answered_by: Mapping[str, int] = field(default_factory=dict)
    costs: Sequence[Mapping[str, Any]] = ()
    asked: Sequence[Mapping[str, Any]] = ()


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
    compared = {(row["protocol"], row["user_group"], row["metric"]): row for row in report.comparisons}
    groups = report.facts["groups"]
    legacy = uniform(report.config.evaluation.sampled_negatives)
    tailed = [group for group in USER_KINDS if group in groups]
    full_rows = [compared[FULL, group, "N@10"] for group in groups]
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
            tiles=[(title, compared[FULL, group, "N@10"]) for group, title in TILES.items() if group in groups],
            beaten_by=[title for model, title in MODELS.items() if _beats(values, model)],
            metrics=METRICS,
            groups=groups,
            tables={protocol: _table(values, compared, groups, protocol) for protocol in (FULL, legacy)},
            full=FULL,
            legacy=legacy,
            compared=compared,
            one_seed=ONE_SEED if len(report.facts["seeds"]) == 1 else "",
            conditional=CONDITIONAL,
            intervals=INTERVALS,
            level=in_percent(report.comparisons[0]["level"]),
            fewest=figures.FEWEST,
            figures={
                "lengths": figures.lengths(report.facts["lengths"], report.facts["tail_threshold"]),
                "tail_and_head": figures.tail_and_head([_bars(values, group) for group in tailed]),
                "differences": figures.differences(full_rows),
                "reliability": figures.reliability(report.omega, report.hit, report.compared),
            },
            omega=_shares(report),
            settings=_settings(report.config),
            sources=Counter(source for example in report.examples for _, source in example.pseudo),
        )
    )


def _values(metrics: Iterable[Mapping[str, Any]]) -> Values:
    values: Values = {}
    for row in metrics:
        values.setdefault((row["model"], row["protocol"], row["user_group"], row["metric"]), []).append(row["value"])
    return values


def _bars(values: Values, group: str) -> tuple[str, dict[str, tuple[float, float]]]:
    """Label of a group and, per model, mean and sd of its NDCG@10."""
    return group.replace(" ", "\n"), {model: _moments(values[model, FULL, group, "N@10"]) for model in MODELS}


def _moments(values: Sequence[float]) -> tuple[float, float]:
    return fmean(values), stdev(values) if len(values) > 1 else 0.0


def _table(
    values: Values,
    compared: Mapping[tuple[str, str, str], Mapping[str, Any]],
    groups: Iterable[str],
    protocol: str,
) -> dict[str, dict[str, dict[str, Cell]]]:
    """group → model's title → metric → cell."""
    table: dict[str, dict[str, dict[str, Cell]]] = {}
    for group in groups:
        rows: dict[str, dict[str, Cell]] = {title: {} for title in MODELS.values()}
        for metric in METRICS:
            seen = {model: values[model, protocol, group, metric] for model in MODELS}
            best = max(fmean(of_seeds) for of_seeds in seen.values())
            for model, title in MODELS.items():
                mean, deviation = _moments(seen[model])
                rows[title][metric] = Cell(
                    mean,
                    deviation or None,
                    best=mean == best > 0,
                    stars=compared[protocol, group, metric]["stars"] if model == "llmser" else "",
                )
        table[group] = rows
    return table


def _beats(values: Values, model: str) -> bool:
    """Whether an untrained counter is better than LLMSeR over all users."""
    if METHODS[model].trained:
        return False
    return fmean(values[model, FULL, "all", "N@10"]) > fmean(values["llmser", FULL, "all", "N@10"])


def _shares(report: Report) -> dict[str, float]:
    """What the ω histogram says, in numbers."""
    return {
        "mean": float(report.omega.mean()) if len(report.omega) else 0.0,
        "compared": float(report.compared.mean()) if len(report.omega) else 0.0,
        "hit": float(report.hit[report.compared].mean()) if report.compared.any() else 0.0,
    }


def _is_embedded(report: Report) -> bool:
    """Whether the embedding ranker answered; as long as nobody has, whether it would be asked."""
    if report.answered_by:
        return any(name.startswith(RANKER) for name in report.answered_by)
    return report.config.llm.endpoint == EMBEDDED


def _asks(report: Report) -> bool:
    """Whether anybody was asked anything; as long as that is not known, whether the run has questions."""
    if report.asked:
        return any(row["asked"] for row in report.asked)
    return not set(QUESTION_STEPS) <= _left_out(report.config)


def _left_out(config: RunConfig) -> set[str]:
    """Parts without an LLM call: without ARV nobody is asked for the masked item either."""
    left_out = set(config.augmentation.without)
    return left_out | {"reason"} if "arv" in left_out else set(left_out)


def _settings(config: RunConfig) -> list[tuple[str, str, str, str]]:
    """Section, name, value and description of every knob; credentials are never settings."""
    flat = to_flat(config)
    return [(knob.section, knob.name, str(flat[knob.name]), knob.description) for knob in parameters()]


def decimal(value: float | None, places: int = 4) -> str:
    """.0834, as the papers write it."""
    if value is None:
        return "–"
    text = f"{value:.{places}f}"
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text


def signed(value: float) -> str:
    return ("+" if value >= 0 else "−") + decimal(abs(value))


def change(row: Mapping[str, Any]) -> str:
    """Relative difference to the base."""
    return f"{100 * row['difference'] / row['base']:+.1f} %".replace("-", "−") if row["base"] else "new"


def tone(row: Mapping[str, Any]) -> str:
    """The colour of a difference: one only where it is significant."""
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
