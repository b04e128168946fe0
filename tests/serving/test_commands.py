"""`llmser recommend` and `llmser compare` from end to end, on a noted run."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from evaluated_world import HOSTILE, ITEMS, Trained
from noted_run import changed, note_run

from llmser_tasks import recommenders
from llmser_tasks.cli import cli
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.names import CONDITIONAL
from llmser_tasks.evaluation.metrics import METRICS
from llmser_tasks.sequences.histories import Histories


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


# recommend


def test_new_users_get_what_the_model_would_give_them(noted: Warehouse, trained: Trained) -> None:
    result = invoke("recommend", "first", "--history", "i004, i005", "--history", "i020", "-k", "3", "--format", "csv")
    assert result.exit_code == 0, result.stderr
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    model = recommenders.load(trained.folder("llmser/42"))
    histories = Histories.of([0, 1], [[4, 5], [20]])
    items, scores = recommenders.top_k(model, histories, 3, histories)
    assert [row["item_id"] for row in rows] == [f"i{item:03d}" for item in items.ravel()]
    assert [(row["user_id"], row["rank"]) for row in rows] == [(u, r) for u in "12" for r in "123"]
    assert [float(row["score"]) for row in rows] == pytest.approx(scores.ravel().tolist())
    base = invoke("recommend", "first", "--history", "i004,i005", "--method", "base", "-k", "3", "--format", "csv")
    assert base.stdout not in result.stdout


def test_everything_that_is_left_and_nothing_twice(noted: Warehouse) -> None:
    rows = json.loads(invoke("recommend", "latest", "--history", "i004,i005", "-k", "99", "--format", "json").stdout)
    assert [row["rank"] for row in rows] == list(range(1, ITEMS - 1))
    assert {row["item_id"] for row in rows} == {f"i{n:03d}" for n in range(1, ITEMS + 1)} - {"i004", "i005"}
    assert {row["item_id"]: row["title"] for row in rows}["i001"] == HOSTILE


def test_titles_say_what_was_taken_and_harm_no_terminal(noted: Warehouse) -> None:
    result = invoke("recommend", "first", "--titles", "ITEM 9", "--titles", "the item: 12\x1b[0m", "-k", "2")
    assert result.exit_code == 0, result.stderr
    _, _, said = result.stderr.splitlines()
    assert said.startswith("“the item: 12�[0m” taken for “Item 12” (the closest title, ")
    assert "\x1b" not in result.output


def test_files_and_options_together(noted: Warehouse, tmp_path: Path) -> None:
    (tmp_path / "h.jsonl").write_text('{"user_id": "ann", "item_ids": ["i007"]}\n')
    result = invoke(
        "recommend", "first", "--history", "i004", "--file", str(tmp_path / "h.jsonl"), "-k", "1", "--format", "json"
    )
    assert [row["user_id"] for row in json.loads(result.stdout)] == ["1", "ann"]


BARE = "; histories are scored as they are, without what the run made for its own users."


def test_the_method_of_the_runs_recommendations_recommends_and_is_told_with_why(
    noted: Warehouse, trained: Trained
) -> None:
    def told(run: str, *arguments: str) -> tuple[str, str]:
        result = invoke("recommend", run, "--history", "i004,i005", "--format", "csv", *arguments)
        assert result.exit_code == 0, result.stderr
        return result.stderr.splitlines()[1], result.stdout

    assert told("first")[0] == f"Recommending by LLMSeR, as the settings say{BARE}"
    note_run(noted, trained, "best", changed(trained, "evaluation", publish="best"))
    why, _ = told("best")
    assert "the best on validation items (N@10: base " in why and ", LLMSeR " in why
    note_run(noted, trained, "named", changed(trained, "evaluation", publish="base"))
    line, rows = told("named")
    assert line == "Recommending by base, as the settings say."
    assert ("Recommending by base.", rows) == told("named", "--method", "base") == told("first", "--method", "base")
    assert told("named", "--method", "llmser") == (f"Recommending by LLMSeR{BARE}", told("first")[1])


def test_a_method_that_a_run_did_not_train_is_one_sentence(noted: Warehouse, trained: Trained, tmp_path: Path) -> None:
    note_run(noted, trained, "alone", changed(trained, "evaluation", methods=("base",), publish="best"))
    assert invoke("recommend", "alone", "--history", "i004").exit_code == 0
    assert invoke("compare", "alone").exit_code == 0
    recommend, export = (
        ("recommend", "alone", "--history", "i004"),
        ("export", "alone", "model", "-o", str(tmp_path / "m")),
    )
    for command in (recommend, export):
        result = invoke(*command, "--method", "llmser")
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.endswith(
            "Error: Run alone has no model of LLMSeR; name one of its own with --method: base.\n"
        )


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("first", "--history", "i004,nosuch"), 1, "does not have these item ids: 'nosuch' (history of '1'); correct"),
        (("nosuch", "--history", "i004"), 1, "There is no run 'nosuch'"),
        (("first", "--history", ","), 1, "The history of '1' is empty"),
        (("first",), 2, "Whom for? Give --history, --titles or --file."),
    ],
)
def test_what_cannot_be_used_is_one_sentence(
    noted: Warehouse, arguments: tuple[str, ...], code: int, sentence: str
) -> None:
    result = invoke("recommend", *arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert sentence in result.stderr


# compare


@pytest.fixture
def two(noted: Warehouse, trained: Trained) -> Warehouse:
    note_run(noted, trained, "second", changed(trained, "reliability", enhance_inference=False))
    return noted


def test_a_table_as_papers_print_it(two: Warehouse) -> None:
    result = invoke("compare", "first", "second", "first", "--group", "tail users", "--reference", "popularity")
    assert result.exit_code == 0, result.stderr
    head, _, *lines = result.stdout.splitlines()
    assert head.split() == [*["group", "users", "run", "method", "settings", "seeds"], *METRICS]
    expected = [
        "first popularity 2 0.",
        "first title neighbours 2 ",
        "first transition graph 2 ",
        "first co-occurrence 2 1.0000 ± 0.0000",  # the ring's order is all there is to know
        "first SASRec 2 1.0000 ± 0.0000",
        "first SASRec + LLMSeR enhance_inference True 2 ",
        "second SASRec + LLMSeR enhance_inference False 2 ",
    ]
    for line, start in zip(lines, expected, strict=True):
        said = " ".join(line.split()[3:])
        assert said.startswith(start)
        assert len(re.findall(r"\b[01]\.\d{4} ± 0\.\d{4}", said)) == len(METRICS)
    assert " ± " in lines[0] and "*" not in lines[0]
    assert "***" in lines[3]
    *_, told, conditional = result.stderr.splitlines()
    assert told.startswith("full; against popularity of first: * p < .05") and conditional == CONDITIONAL


def test_everything_exact_in_every_form(two: Warehouse, tmp_path: Path) -> None:
    rows = json.loads(invoke("compare", "first", "second", "--protocol", "uniform-5", "--format", "json").stdout)
    assert {row["protocol"] for row in rows} == {"uniform-5"}
    assert {row["user_group"] for row in rows} == {"all", "tail users", "head users"}
    assert len(rows) == 3 * 7 * 5
    one = next(row for row in rows if row["run_id"] == "second" and row["metric"] == "MRR")
    assert (one["method"], one["settings"]) == ("llmser", {"enhance_inference": False})
    assert one["low"] <= one["difference"] <= one["high"] and 0 <= one["p"] <= one["p_holm"] <= 1
    file = tmp_path / "c.parquet"
    file.write_bytes(invoke("compare", "first", "--format", "parquet").stdout_bytes)
    assert pq.read_table(file).num_rows == 3 * 6 * 5
    assert invoke("compare", "first", "--format", "csv").stdout.startswith("protocol,user_group,users,run_id,")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("first", "nosuch"), "There is no run 'nosuch'; `llmser show runs` lists them."),
        (("first", "--group", "kings"), "There is no group 'kings'; there are: all, tail users"),
        (("first", "--protocol", "uniform-100"), "was not evaluated by uniform-100; it has full and uniform-5"),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(noted: Warehouse, arguments: tuple[str, ...], sentence: str) -> None:
    result = invoke("compare", *arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert sentence in result.stderr.splitlines()[-1]


def test_artefacts_that_are_gone(noted: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMSER_ARTEFACTS", str(tmp_path))
    for arguments in (("compare", "first"), ("recommend", "first", "--history", "i004"), ("export", "first", "model")):
        result = invoke(*arguments)
        assert result.exit_code == 1
        assert "Error: Run first's " in result.stderr and f" is gone from {tmp_path}" in result.stderr
