from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from evaluated_world import HOSTILE, T, Trained

from llmser_tasks.core.config import from_flat
from llmser_tasks.core.decimals import decimal, signed
from llmser_tasks.core.kinds import COUNTERS
from llmser_tasks.core.names import BY_PART, CONDITIONAL, INTERVALS, OF_ITEM_MAPS, ONE_SEED, about_item_map
from llmser_tasks.evaluation import figures
from llmser_tasks.evaluation.examples import Example, examples, spread
from llmser_tasks.evaluation.groups import COLD
from llmser_tasks.evaluation.item_maps import read_maps
from llmser_tasks.evaluation.report import Report, Trust, change, render
from llmser_tasks.evaluation.significance import stars

LINES = {"read": 70, "kept": 60, "duplicates": 3, "filtered": {"user_core": 5}, "quarantined": {"bad JSON": 2}}
INGEST: dict[str, Any] = {
    "before": {"users": 70, "items": 33, "interactions": 300},
    "after": {"users": 60, "items": 30, "interactions": 280, "density": 0.155},
    "lengths": {"median": 4, "p80": 6, "max": 8},
    "titles": {"coverage": 0.97, "different": 29},
    "lines": {"reviews": LINES, "items": LINES},
}


@pytest.fixture(scope="module")
def report(trained: Trained) -> Report:
    folder = trained.workspace.folder(trained.evaluated())
    shown = examples(
        trained.world.histories,
        trained.folder("pseudo") / "pseudo.parquet",
        trained.folder("reliability") / "reliability.parquet",
        trained.world.known,
        tail_threshold=T,
        seed=42,
    )
    return Report(
        run_id="run <1>",
        config=trained.config,
        started="2031-05-06 07:08 UTC",
        synthetic=False,
        facts=json.loads((folder / "facts.json").read_text(encoding="utf-8")),
        metrics=pq.read_table(folder / "metrics.parquet").to_pylist(),
        comparisons=pq.read_table(folder / "comparisons.parquet").to_pylist(),
        places={method: drawn.places for method, drawn in read_maps(folder).items()},
        trust=Trust(np.array([0.0, 0.5, 1.0]), np.array([False, False, True]), np.array([False, True, True]), shown),
        ingest=INGEST,
    )


@pytest.fixture(autouse=True)
def quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes half a second; tests that do not look at the figures go without."""
    if "drawn" not in request.fixturenames:
        for name in ("lengths", "tail_and_head", "differences", "waterfall", "item_map", "reliability"):
            monkeypatch.setattr(figures, name, lambda *_: "<svg></svg>")


@pytest.fixture
def drawn() -> None:
    """Figures are drawn."""


class Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_it_holds_tables_figures_and_ten_examples(report: Report, drawn: None) -> None:
    page = Page(render(report))
    assert page.tags.count("svg") == 8
    assert page.tags.count("article") == 10
    for words in ("Full ranking", "By group", "tail users", "Co-occurrence", "Popularity", "uniform-5", "run <1>"):
        assert words in page.text
    assert "5 user core" in page.text and "2 bad JSON" in page.text


def test_it_loads_nothing_and_runs_nothing(report: Report, drawn: None) -> None:
    html = render(report)
    page = Page(html)
    assert not {"script", "link", "img", "iframe", "object", "form"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    links = [value for name, value in page.attributes if name in {"src", "href", "xlink:href", "data", "action"}]
    assert all(value.startswith("#") for value in links)
    assert not re.search(r"@import|url\((?!['\"]?#)", html)
    assert "default-src 'none'" in html


def test_maps_of_items_are_told_in_words_and_their_dots_are_those_of_the_items(report: Report, drawn: None) -> None:
    html = render(report)
    page = Page(html)
    assert "What items are to each model" in page.text and OF_ITEM_MAPS in " ".join(page.text.split())
    for row in report.facts["item_maps"]:
        told = about_item_map(row["shares"], row["silhouette"], row["overlap"], row["chance"])
        assert ("aria-label", told) in page.attributes and told in page.text
    paths = re.findall(r'<path d="([^"]*)" style="stroke:var\(--(\w+)\);stroke-linecap:round"/>', html)
    assert [colour for _, colour in paths] == ["ours", "third"] * 2
    assert [path.count("M") for path, _ in paths] == [24, 6] * 2, "head items lie over tail items"
    assert "What items are to each model" not in render(replace(report, places={}))


def test_cold_items_are_told_apart_from_what_is_compared(report: Report) -> None:
    groups = report.facts["groups"] | {COLD: 3}
    metrics = [*report.metrics, *({**row, "user_group": COLD} for row in report.metrics if row["user_group"] == "all")]
    html = render(replace(report, facts={**report.facts, "groups": groups}, metrics=metrics))
    assert "3 of the test items are cold: nobody had them in training." in Page(html).text
    assert "are cold" not in Page(render(report)).text


@pytest.mark.parametrize("where", ["user", "pseudo", "history", "named", "source", "reason"])
def test_hostile_text_is_shown_as_text(report: Report, where: str) -> None:
    plain = Example("u", 2, True, [("A", "strict")], 3, ["B", "C"], "D", False, "strict", 0.5, 0.25, None)
    value: Any = {"pseudo": [(HOSTILE, HOSTILE)], "history": [HOSTILE, HOSTILE]}.get(where, HOSTILE)
    html = render(replace(report, trust=replace(report.trust, examples=[replace(plain, **{where: value})])))
    assert HOSTILE not in html
    assert "script" not in Page(html).tags
    assert HOSTILE in Page(html).text


def test_hostile_endpoint_names_and_ingest_reasons_are_shown_as_text(report: Report) -> None:
    lines = LINES | {"quarantined": {HOSTILE: 2}}
    config = from_flat({"dataset": "tiny", "seeds": [42, 43], "sampled_negatives": 5, "endpoint": "glm"})
    changed = replace(
        report, config=config, run_id=HOSTILE, ingest=INGEST | {"lines": {"x": lines}}, answered_by={HOSTILE: 3}
    )
    page = Page(render(changed))
    assert "script" not in page.tags
    assert page.text.count(HOSTILE) >= 3


def test_synthetic_data_says_so(report: Report) -> None:
    assert "SYNTHETIC DATA" not in render(report)
    assert "SYNTHETIC DATA" in render(replace(report, synthetic=True))


def test_the_embedding_ranker_is_called_no_llm(report: Report) -> None:
    assert "not an LLM" in Page(render(report)).text
    config = from_flat({"dataset": "tiny", "seeds": [42, 43], "sampled_negatives": 5, "endpoint": "glm"})
    other = Page(render(replace(report, config=config, answered_by={"glm-4-flash": 12}))).text
    assert "not an LLM" not in other
    assert "glm-4-flash" in other
    assert "not an LLM" in Page(render(replace(report, config=config, answered_by={"embedding-ranker": 12}))).text


def test_where_nobody_could_be_asked_nobody_is_said_to_have_answered(report: Report) -> None:
    asked = [{"step": "snf", "users": 348, "asked": 0}, {"step": "reason", "users": 348, "asked": 0}]
    page = " ".join(
        Page(
            render(replace(report, asked=asked, ingest=INGEST | {"titles": {"coverage": 0.02, "different": 1}}))
        ).text.split()
    )
    assert "questions were answered by" not in page and "no endpoint asked" in page
    assert "0 of 348 users could be asked in snf" in page
    assert "Only 2.0 % of the items have a title" in page
    some = " ".join(Page(render(replace(report, asked=[{"step": "snf", "users": 348, "asked": 347}]))).text.split())
    assert "questions were answered by" in some and "347 of 348 users could be asked in snf" in some


def test_the_share_of_ties_is_in_the_report(report: Report) -> None:
    ties = {"order": "file", "moments": 9, "neighbours": 0.439, "last_items": 0.435}
    page = " ".join(Page(render(replace(report, ingest=INGEST | {"ties": ties}))).text.split())
    assert "43.9 % of neighbouring interactions share a time, and 43.5 % of users' last items" in page
    assert "the order of lines in the dump" in page


@pytest.mark.parametrize(("shown", "places"), [("", 0), ("*", 3)])  # in its tile, the main table and the group table
def test_stars_stand_only_where_the_rows_have_them(report: Report, shown: str, places: int) -> None:
    rows = [row | {"stars": shown if _first(row) else ""} for row in report.comparisons]
    assert render(replace(report, comparisons=rows)).count("<sup>*</sup>") == places


@pytest.mark.parametrize(
    ("shown", "difference", "colour", "word"),
    [("", 0.049, "", "not significant"), ("*", 0.049, "up", "significant"), ("▼*", -0.049, "down", "significant")],
)
def test_a_change_has_a_colour_only_where_it_is_significant_and_says_which(
    report: Report, shown: str, difference: float, colour: str, word: str
) -> None:
    rows = [row | {"stars": shown, "difference": difference, "reference_mean": 1.0} for row in report.comparisons]
    html = render(replace(report, comparisons=rows))
    change_ = f"{100 * difference:+.1f} %".replace("-", "−")
    tile = re.search(rf'<div class="change {colour}">{re.escape(change_)}(.*?)</div>', html)
    assert tile and Page(tile[1]).text.strip().removeprefix(shown).strip() == word
    others = {"up", "down"} - {colour}
    assert not [name for name in others if f'class="change {name}"' in html or f'<td class="{name}"' in html]


def test_what_p_and_spread_are_conditional_on_stands_beside_them(report: Report) -> None:
    text = Page(render(report)).text
    assert text.count(CONDITIONAL) == 5  # beside the tiles, both tables, the parts and the legacy tables
    assert ONE_SEED not in text and text.count(INTERVALS) == 1


def test_with_one_seed_no_stars_are_shown_and_the_report_says_why(report: Report) -> None:
    rows = [row | {"p_holm": 0.0001, "seeds": 1, "stars": stars(0.0001, 0.1, 1)} for row in report.comparisons]
    metrics = [row for row in report.metrics if row["seed"] == 42]
    rungs = [row | {"p_holm": 0.0001, "seeds": 1, "stars": ""} for row in report.facts["rungs"]]
    facts = {**report.facts, "seeds": [42], "rungs": rungs}
    html = render(replace(report, comparisons=rows, metrics=metrics, facts=facts))
    assert "<sup>" not in html and 'class="change "' in html
    text = Page(html).text
    assert ONE_SEED in text and CONDITIONAL in text and "one seed" in text
    assert "significant" not in text.split("Settings")[0].replace("not significant", "")


def _first(row: dict[str, Any]) -> bool:
    return (row["protocol"], row["user_group"], row["metric"]) == ("full", "all", "N@10")


def test_an_untrained_counter_that_wins_is_named(report: Report) -> None:
    worse = [row | {"value": 0.0} if row["method"] in COUNTERS else row for row in report.metrics]
    better = [row | {"value": 1.0} if row["method"] == "cooccurrence" else row for row in worse]
    assert "Co-occurrence, which is not trained at all" in Page(render(replace(report, metrics=better))).text
    assert "not trained at all" not in Page(render(replace(report, metrics=worse))).text


def test_the_same_run_gives_the_same_bytes(report: Report, drawn: None) -> None:
    assert render(report) == render(report)


def test_it_renders_without_ingest_report_examples_and_spread_over_seeds(report: Report, drawn: None) -> None:
    one = [row for row in report.metrics if row["seed"] == 42]
    nobody = np.zeros(0, bool)
    text = Page(render(replace(report, metrics=one, ingest={}, trust=Trust(np.zeros(0), nobody, nobody, [])))).text
    assert "No user has pseudo items" in text
    assert "±" not in text.split("Settings")[0].replace("Mean ± sd", "")


def test_examples_say_what_was_added_masked_and_named(report: Report, trained: Trained) -> None:
    examples_ = report.trust.examples
    example = examples_[0]
    row = int(example.user[1:])
    history = trained.world.histories[row]
    titles = trained.world.known.titles_of(history)
    assert example.n == len(history)
    assert example.history == [title or "i002 (no title)" for title in titles]
    assert example.named == example.history[-1] and example.named_is_masked
    assert len(example.pseudo) == 2 and {source for _, source in example.pseudo} == {"strict"}
    assert [shown.omega for shown in examples_] == sorted((e.omega for e in examples_), reverse=True)


def test_examples_differ_in_omega_and_are_chosen_by_seed() -> None:
    omega = np.linspace(0, 1, 200)
    rows = np.arange(200)
    chosen = omega[spread(rows, omega, 1, 10)]
    assert len(chosen) == 10 and (np.diff(chosen) < 0).all() and chosen[0] > 0.9 and chosen[-1] < 0.1
    assert spread(rows, omega, 1, 10) == spread(rows, omega, 1, 10) != spread(rows, omega, 2, 10)
    assert len(spread(rows[:3], omega[:3], 1, 10)) == 3
    assert spread(rows[:0], omega[:0], 1, 10) == []


def test_numbers_as_the_papers_write_them() -> None:
    assert decimal(0.08342) == ".0834" and decimal(1.0) == "1.0000" and decimal(-0.01, 2) == "-.01"
    assert decimal(None) == "–"
    assert signed(0.0123) == "+.0123" and signed(-0.0123) == "−.0123"
    assert change({"difference": 0.01, "reference_mean": 0.1}) == "+10.0 %"
    assert change({"difference": 0.01, "reference_mean": 0.0}) == "new"


def test_it_says_whose_recommendations_readers_are_given_and_why(report: Report) -> None:
    named = Page(render(replace(report, facts={**report.facts, "chosen_by": "name"}))).text
    assert "Recommendations are those of LLMSeR, as the settings say." in named
    validation = {"base": 0.0512, "llmser": 0.0498}
    best = {**report.facts, "chosen": "base", "chosen_by": "validation", "validation": validation}
    told = Page(render(replace(report, facts=best))).text
    assert "those of base, the best on validation items (N@10: base .0512, LLMSeR .0498)" in told


def test_of_the_reference_alone_the_report_has_no_comparison_and_no_pseudo_items(report: Report, drawn: None) -> None:
    facts = {**report.facts, "chosen": "base", "chosen_by": "validation", "validation": {"base": 0.05}, "rungs": []}
    facts["item_maps"] = facts["item_maps"][:1]
    metrics = [row for row in report.metrics if row["method"] != "llmser"]
    page = Page(render(replace(report, facts=facts, metrics=metrics, comparisons=[], trust=None)))
    assert page.tags.count("svg") == 3 and "Ten augmented users" not in page.text and "Holm" not in page.text
    assert "LLMSeR N@10" not in page.text and "LLMSeR against" not in page.text


def rung(place: int, previous: str, method: str, added: str, difference: float, stars: str) -> dict[str, Any]:
    mean = 0.05 + 0.01 * place
    row = {"place": place, "previous": previous, "method": method, "added": added, "user_group": "all", "stars": stars}
    said = {"difference": difference, "low": difference - 0.002, "high": difference + 0.002, "p": 0.01, "p_holm": 0.02}
    return row | said | {"previous_mean": mean, "mean": mean + difference, "level": 0.975, "seeds": 2}


LADDER = [
    rung(1, "base", "base+text-start", "text-start", 0.01, "*"),
    rung(2, "base+text-start", "llmser+text-start+content", "llmser+content", -0.001, ""),
]


def test_what_each_part_brought_is_drawn_with_its_interval_and_told_to_those_who_do_not_see_it(
    report: Report, drawn: None
) -> None:
    html = render(replace(report, facts={**report.facts, "rungs": LADDER}))
    page = Page(html)
    (told,) = [value for name, value in page.attributes if name == "aria-label" and "each part" in value]
    assert told.replace("\N{NO-BREAK SPACE}", " ") == (
        "What each part adds to NDCG@10, all. base .0600; + text start: +.0100 (+.0080 to +.0120);"
        " + LLMSeR + content score: −.0010 (−.0030 to +.0010); together .0690"
    )
    section = html.split("<h2>What each part brought</h2>")[1].split("<h2>")[0]
    text = " ".join(Page(section).text.split())
    for words in (BY_PART, CONDITIONAL, "97.5 % intervals", "over the 2 comparisons", "In colour: p < .05.", "+.0100*"):
        assert words in text


@pytest.mark.parametrize("rungs", [[], None])
def test_without_parts_there_is_no_chart_of_them(report: Report, rungs: list[dict[str, Any]] | None) -> None:
    facts = {name: value for name, value in report.facts.items() if name != "rungs"}
    html = render(replace(report, facts=facts if rungs is None else {**facts, "rungs": rungs}))
    assert "What each part brought" not in html and BY_PART not in Page(html).text


def test_of_one_seed_no_part_is_in_colour(report: Report, drawn: None) -> None:
    rungs = [row | {"seeds": 1, "stars": ""} for row in LADDER]
    html = render(replace(report, facts={**report.facts, "seeds": [42], "rungs": rungs}))
    section = html.split("<h2>What each part brought</h2>")[1].split("<h2>")[0]
    assert ONE_SEED in Page(section).text and "In colour" not in section
    assert "var(--ours)" not in section and "var(--bad)" not in section
