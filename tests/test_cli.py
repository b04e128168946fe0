"""The command line: what goes where, exit codes, and that text cannot do harm on its way out."""

from __future__ import annotations

import csv
import io
import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from patience import until
from sqlalchemy import text

from llmser_tasks.cli import COMMANDS, cli
from llmser_tasks.commands.options import as_arguments
from llmser_tasks.core import config
from llmser_tasks.core import environment as settings
from llmser_tasks.core.errors import InputError
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.kinds import TRAINED, USUAL, behind
from llmser_tasks.postgres import embedded
from llmser_tasks.postgres.launching import free_port
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.rows import copy_rows
from llmser_tasks.warehouse.tables import acceptance, batches, runs

HOSTILE = '=1+1,"x"\n\x1b[31m<script>漢\\'
SECRET = "planted-key-93"
LISTED = f"{', '.join(TRAINED[:-1])} or {TRAINED[-1]}" + (
    f", or one of them with an item table or an addition behind it ({', '.join(behind())})" if behind() else ""
)
WHAT = [
    "tail-report", "comparisons", "rungs", "item-maps", "tried", "validations", "reliability", "steps", "batches",
    "runs", "costs", "group-costs", "answer-quality", "user-texts",
]  # fmt: skip
METRICS = ["H@10", "N@10", "H@20", "N@20", "MRR"]


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLMSER_HOME", str(tmp_path / "home"))
    for name in ("LLMSER_DATABASE_URL", "LLMSER_ARTEFACTS", "LLMSER_RANKER_URL", "LLMSER_LLM_URL", "LLMSER_LLM_KEY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "home"


@pytest.fixture
def filled(home: Path, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> Warehouse:
    """A warehouse with one finished run."""
    monkeypatch.setenv("LLMSER_DATABASE_URL", warehouse.url)
    runs.create(warehouse, "r1", "sample", {"backbone": "sasrec", "noun": HOSTILE})
    with transaction(warehouse) as connection:
        runs.mark_synthetic(connection, "r1")
        copy_rows(
            connection, "metrics", ["run_id", "method", "seed", "protocol", "user_group", "metric", "value", "users"],
            [("r1", method, 42, "full", "all", metric, value, 10)
             for method, value in (("base", 0.1), ("llmser", 1 / 3)) for metric in METRICS],
        )  # fmt: skip
        copy_rows(
            connection, "pseudo_items", ["run_id", "user_id", "item_ids", "titles", "sources"],
            [("r1", "u1", ["a", "b"], [HOSTILE, "plain"], ["strict", "fuzzy"])],
        )  # fmt: skip
        copy_rows(
            connection, "recommendations", ["run_id", "method", "seed", "user_id", "item_ids", "scores"],
            [("r1", "llmser", 42, "u1", ["c", "a"], [2.5, 0.1]), ("r1", "llmser", 42, "u2", ["b"], [1.0])],
        )  # fmt: skip
        copy_rows(
            connection, "reliability",
            ["run_id", "user_id", "n", "masked_item", "masked_title", "omega", "alpha", "encoder_hash"],
            [("r1", "u1", 3, "z", None, 0.25, 0.125, "abc")],
        )  # fmt: skip
        copy_rows(
            connection, "picks", ["run_id", "step", "user_id", "question_key", "shuffle_seed", "item_ids", "sources"],
            [("r1", "snf", "u1", "k", 1, ["a"], ["strict"])],
        )  # fmt: skip
        copy_rows(connection, "answers", ["question_key", "step", "prompt_version", "model", "content", "attempts"],
                  [("k", "snf", "1", "m", HOSTILE, 1)])  # fmt: skip
        copy_rows(connection, "reports", ["run_id", "html"], [("r1", "<html>report</html>")])
        runs.finish(connection, "r1")
    return warehouse


# show and export


def test_table1_is_what_show_shows(filled: Warehouse) -> None:
    result = invoke("show")
    assert result.exit_code == 0
    header, _, base, llmser = result.stdout.splitlines()
    assert header.split() == ["protocol", "method", "user_group", "seeds", "users", *METRICS]
    assert base.split()[:5] == ["full", "base", "all", "1", "10"]
    assert llmser.split()[5] == "0.3333"
    assert result.stderr == "Run r1 of dataset sample, SYNTHETIC sample data, succeeded\n"


def test_a_table_on_a_terminal_holds_no_control_characters(filled: Warehouse) -> None:
    result = invoke("show", "r1", "pseudo-items")
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
    assert len(result.stdout.splitlines()) == 4
    assert '=1+1,"x" �[31m<script>漢\\' in result.stdout


def test_csv_is_exact(filled: Warehouse) -> None:
    result = invoke("export", "latest", "pseudo-items", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(result.stdout, newline="")))
    assert [(r["user_id"], r["position"], r["item_id"], r["title"], r["source"]) for r in rows] == [
        ("u1", "1", "a", HOSTILE, "strict"), ("u1", "2", "b", "plain", "fuzzy"),
    ]  # fmt: skip


def test_json_is_exact(filled: Warehouse) -> None:
    rows = json.loads(invoke("export", "r1", "answers", "--format", "json").stdout)
    assert rows[0]["content"] == HOSTILE
    assert rows[0]["item_ids"] == ["a"]
    assert rows[0]["cost"] is None
    metrics = json.loads(invoke("export", "r1", "metrics", "--format", "json").stdout)
    assert {row["value"] for row in metrics} == {0.1, 1 / 3}
    assert json.loads(invoke("export", "r1", "batches", "--format", "json").stdout) == []


def test_parquet_has_types_even_where_all_is_missing(filled: Warehouse, tmp_path: Path) -> None:
    file = tmp_path / "answers.parquet"
    assert invoke("export", "r1", "answers", "-o", str(file)).stdout == ""
    table = pq.read_table(file)
    assert str(table.schema.field("cost").type) == "double"
    assert str(table.schema.field("item_ids").type) == "list<element: string>"
    assert str(table.schema.field("created_at").type) == "timestamp[us, tz=UTC]"
    assert table["content"].to_pylist() == [HOSTILE]
    assert invoke("export", "r1", "batches", "--force", "-o", str(file)).exit_code == 0
    assert pq.read_table(file).num_rows == 0
    assert list(tmp_path.glob(".answers*")) == []


def test_recommendations_come_in_rank_order(filled: Warehouse) -> None:
    lines = invoke("export", "r1", "recommendations").stdout.splitlines()
    assert lines == [
        "user_id,rank,item_id,score,method,seed", "u1,1,c,2.5,llmser,42", "u1,2,a,0.1,llmser,42", "u2,1,b,1.0,llmser,42"
    ]  # fmt: skip


@pytest.mark.parametrize("what", WHAT)
@pytest.mark.parametrize("form", ["table", "csv", "json", "parquet"])
def test_everything_comes_in_every_form(filled: Warehouse, what: str, form: str) -> None:
    result = invoke("export", "r1", what, "--format", form)
    assert result.exit_code == 0, result.stderr
    assert result.stdout_bytes


def test_answers_are_exported_and_forgotten_as_asked(filled: Warehouse, tmp_path: Path) -> None:
    with transaction(filled) as connection:
        connection.execute(
            text(
                "insert into answers (question_key, step, prompt_version, model, failure, attempts, cost, created_at)"
                " values ('old', 'reason', '1', 'n', 'too-long', 1, 0.5, now() - interval '40 days')"
            )
        )
    rows = list(csv.DictReader(io.StringIO(invoke("answers", "export").stdout, newline="")))
    assert [(row["question_key"], row["content"]) for row in rows] == [("old", ""), ("k", HOSTILE)]
    assert invoke("answers", "export", "--model", "m", "-o", str(tmp_path / "m.json")).exit_code == 0
    assert [row["question_key"] for row in json.loads((tmp_path / "m.json").read_text())] == ["k"]

    assert invoke("answers", "prune").exit_code == 1  # everything is never meant by saying nothing
    counted = [
        invoke("answers", "prune", "--dry-run", *options).stdout.strip()
        for options in (["--older-than", "30"], ["--older-than", "50"], ["--failed"], ["--unused"], ["--step", "snf"])
    ]
    assert counted == ["1", "0", "1", "1", "1"]
    result = invoke("answers", "prune", "--older-than", "30", "--unused")
    assert (result.stdout, result.stderr) == ("1\n", "Forgot 1 answers that cost 0.5000.\n")
    assert invoke("answers", "prune", "--model", "m' or true --").stdout == "0\n"
    with transaction(filled) as connection:
        assert connection.scalars(text("select question_key from answers")).all() == ["k"]


def test_a_budget_is_shown_and_changed(filled: Warehouse) -> None:
    assert invoke("budget", "r1").stdout == "0 of no limit\n"
    assert invoke("budget", "latest", "2.5").stdout == "0 of 2.5\n"
    with transaction(filled) as connection:
        connection.execute(
            text(
                "insert into batches (run_id, step, batch, label, users, cost, lost, state)"
                " values ('r1', 'snf', 0, 'x', 1, 1.25, 0.25, 'done')"
            )
        )
    assert invoke("budget", "r1").stdout == "1.5 of 2.5\n"
    assert invoke("budget", "r1", "--none").stdout == "1.5 of no limit\n"
    assert invoke("budget", "r1", "3", "--none").exit_code == 2
    assert invoke("budget", "nosuch", "3").exit_code == 1


def test_runs_need_no_run(filled: Warehouse) -> None:
    assert json.loads(invoke("show", "runs", "--format", "json").stdout)[0]["config"]["noun"] == HOSTILE


EXPORTS = [["export", "r1", "metrics"], ["export", "r1", "report"], ["answers", "export"]]


@pytest.mark.parametrize("command", EXPORTS)
def test_a_file_that_is_there_is_replaced_only_when_asked(
    filled: Warehouse, tmp_path: Path, command: list[str]
) -> None:
    file = tmp_path / "kept.html"
    file.write_text("precious")
    refused = invoke(*command, "-o", str(file))
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr.splitlines()[-1] == (
        f"Error: {file} is there already; name another file, or have it replaced with --force."
    )
    assert file.read_text() == "precious"
    assert invoke(*command, "--force", "-o", str(file)).exit_code == 0
    assert file.read_text() != "precious"


def test_what_is_no_file_is_written_into(filled: Warehouse, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE) as reader:
        assert invoke("export", "r1", "metrics", "-o", str(pipe)).exit_code == 0
        assert reader.stdout is not None and b"N@10" in reader.stdout.read()
    assert pipe.is_fifo(), "and /dev/null stays what it is"


def test_an_export_says_how_many_rows_it_has(filled: Warehouse, tmp_path: Path) -> None:
    assert invoke("export", "r1", "batches", "-o", str(tmp_path / "a.csv")).stderr.splitlines()[-1] == (
        f"Wrote {tmp_path / 'a.csv'}: no rows; run r1 has no batches."
    )
    assert invoke("export", "r1", "recommendations", "-o", str(tmp_path / "b.csv")).stderr.splitlines()[-1] == (
        f"Wrote {tmp_path / 'b.csv'}: 3 rows."
    )


def test_no_answers_are_no_file(filled: Warehouse, tmp_path: Path) -> None:
    result = invoke("answers", "export", "--model", "nobody's", "-o", str(tmp_path / "answers.csv"))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: No answers are selected of those in 127.0.0.1:")
    assert list(tmp_path.glob("*answers*")) == []


# backup, restore


def test_where_there_is_no_warehouse_none_is_made_to_be_backed_up(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "good.backup"
    file.write_text("precious")
    result = invoke("backup", "--force", str(file))
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"There is no warehouse below {home}" in result.stderr
    assert file.read_text() == "precious" and not home.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        "show", "show r1 metrics", "export r1 metrics", "compare r1", "answers export", "answers prune --unusable",
        "budget r1 5", "refresh sample", "rerun-failed r1", "accept r1", "published sample", "publish r1",
        "rollback sample", "recommend r1 --titles lamp",
    ],
)  # fmt: skip
def test_where_nothing_has_run_whoever_only_looks_makes_no_warehouse(home: Path, arguments: str) -> None:
    result = invoke(*arguments.split())
    assert result.exit_code == 1, result.output
    assert f"There is no warehouse below {home}: nothing has run here" in result.stderr
    assert not home.exists()


def test_a_warehouse_goes_into_a_file_and_comes_back(filled: Warehouse, tmp_path: Path) -> None:
    file = tmp_path / "warehouse.backup"
    made = invoke("backup", str(file))
    assert made.exit_code == 0 and "read again and found whole" in made.stdout
    assert "is there already" in invoke("backup", str(file)).stderr
    runs.create(filled, "later", "sample", {})
    refused = invoke("restore", str(file))
    assert refused.exit_code == 130 and runs.load(filled, "later"), "nobody said yes"
    restored = invoke("restore", "--yes", str(file))
    assert restored.exit_code == 0, restored.stderr
    assert "`llmser restore --drop-former` drops it" in restored.stderr
    assert invoke("show", "later", "steps").exit_code == 1 and invoke("show", "r1", "metrics").exit_code == 0
    assert invoke("restore", "--drop-former", "--yes").stdout.startswith("Dropped: llmser_before_2")
    assert invoke("restore").exit_code == 2 == invoke("restore", "--drop-former", str(file)).exit_code


def test_the_report(filled: Warehouse, tmp_path: Path) -> None:
    assert invoke("export", "r1", "report").stdout == "<html>report</html>"
    assert invoke("export", "r1", "report", "-o", str(tmp_path / "report.html")).exit_code == 0
    assert (tmp_path / "report.html").read_text() == "<html>report</html>"
    assert invoke("export", "r1", "report", "-o", str(tmp_path / "report.csv")).exit_code == 2


def test_what_is_not_there_is_one_sentence(filled: Warehouse) -> None:
    result = invoke("show", "nosuch", "metrics")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: There is no run 'nosuch'; `llmser show runs` lists them.\n"


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["show", "r1", "nonsense"], ["export", "r1"], ["run", "--pool", "0"], ["run", "--sauce", "x"]],
)
def test_wrong_usage_is_2(home: Path, arguments: list[str]) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert "Usage:" in result.stderr


def test_a_file_that_cannot_be_written_is_1(filled: Warehouse, tmp_path: Path) -> None:
    result = invoke("export", "r1", "metrics", "-o", str(tmp_path / "missing" / "x.csv"))
    assert result.exit_code == 1
    assert "x.csv: No such file or directory" in result.stderr


# the database


def test_postgres_down_is_one_sentence_without_the_password(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMSER_DATABASE_URL", f"postgresql://llmser:{SECRET}@127.0.0.1:{free_port()}/llmser")
    result = invoke("show", "runs")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: Postgres at 127.0.0.1:")
    assert "Connection refused" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert SECRET not in result.output + result.stderr


# options made from the configuration


def test_every_knob_is_an_option_with_its_description(home: Path) -> None:
    for command in ("run", "trigger"):
        text = " ".join(invoke(command, "--help").stdout.split())
        for parameter in config.parameters():
            assert f"--{parameter.name.replace('_', '-')}" in text
    text = " ".join(invoke("ingest", "--help").stdout.split())
    assert "--user-core" in text
    assert "--backbone" not in text


@pytest.fixture
def triggered(home: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What `llmser trigger` hands to Airflow."""
    caught: dict[str, Any] = {}

    def trigger(_home: Path, values: dict[str, Any], **further: Any) -> str:
        caught.update(values=values, **further)
        return "run-7"

    monkeypatch.setattr("llmser_tasks.services.local.trigger", trigger)
    return caught


def test_only_what_was_given_travels(triggered: dict[str, Any]) -> None:
    result = invoke(
        "trigger", "--dataset", "beauty", "--reviews", "r.gz", "--seeds", "42,43", "--seeds", "44",
        "--without", "ccg,wd", "--no-enhance-inference", "--iterate-core", "--tail-threshold", "",
        "--beta", "0.25", "--run-id", "mine",
    )  # fmt: skip
    assert (result.exit_code, result.stdout) == (0, "run-7\n"), result.stderr
    assert triggered["run_id"] == "mine"
    assert triggered["values"] == {
        "dataset": "beauty",
        "reviews": str(Path("r.gz").absolute()),
        "seeds": [42, 43, 44],
        "without": ["ccg", "wd"],
        "enhance_inference": False,
        "iterate_core": True,
        "tail_threshold": None,
        "beta": 0.25,
    }


def test_a_preset_travels_beneath_what_was_given(triggered: dict[str, Any]) -> None:
    result = invoke("trigger", "--preset", "released", "--seeds", "7", "--backbone", "gru4rec")
    assert result.exit_code == 0, result.stderr
    assert triggered["values"] == settings.preset("released") | {"seeds": [7], "backbone": "gru4rec"}
    assert triggered["values"]["max_length"] == 200
    assert invoke("trigger", "--preset", "nosuch").exit_code == 2


def test_a_setting_that_does_not_fit_is_told_before_anything_starts(triggered: dict[str, Any]) -> None:
    result = invoke("trigger", "--pool", "5", "--pseudo-items", "9")
    assert result.exit_code == 1
    assert "pseudo_items (M) must not exceed pool (N)" in result.stderr
    assert not triggered


def test_methods_are_named_as_a_list_and_one_of_them_published(triggered: dict[str, Any]) -> None:
    said = " ".join(invoke("trigger", "--help").stdout.split())
    assert "--methods METHOD[,…]" in said and "--publish METHOD" in said
    assert invoke("trigger", "--methods", ",".join(USUAL), "--publish", "base").exit_code == 0
    assert triggered["values"] == {"methods": list(USUAL), "publish": "base"}
    assert as_arguments(config.to_flat(settings.configuration(triggered["values"])))[2:] == ["--publish", "base"]


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("--methods", "llmser"), 1, "methods must hold base, which the others are compared with."),
        (("--methods", "base", "--publish", "llmser"), 1, "publish names llmser, which is not among the methods."),
        (("--methods", ""), 1, "Setting methods (--methods) cannot be []: name at least one."),
        (("--methods", "base,popularity"), 1, f"cannot be 'popularity': name {LISTED}."),
        (("--methods", "base,base+ids"), 1, f"cannot be 'base+ids': name {LISTED}."),
        (("--publish", "worst"), 1, f"cannot be 'worst': name best, {LISTED}."),
    ],
)
def test_methods_that_cannot_be_run_start_nothing(
    triggered: dict[str, Any], arguments: tuple[str, ...], code: int, sentence: str
) -> None:
    result = invoke("trigger", *arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.splitlines()[-1].endswith(sentence) and not triggered


def test_a_dataset_file_of_the_user_comes_before_the_shipped_one(home: Path) -> None:
    assert settings.configuration({"dataset": "beauty"}).dataset.item_core == 5
    (home / "datasets").mkdir(parents=True)
    (home / "datasets" / "beauty.json").write_text('{"item_core": 9, "user_core": 7}')
    chosen = settings.configuration({"dataset": "beauty", "user_core": 4}).dataset
    assert (chosen.item_core, chosen.user_core) == (9, 4)


# sample, ingest


def test_sample_then_ingest(home: Path) -> None:
    written = invoke("sample", "--users", "60", "--seed", "1")
    assert written.exit_code == 0, written.stderr
    reviews, items = written.stdout.splitlines()
    assert "SYNTHETIC" in written.stderr
    read = invoke("ingest", "--dataset", "sample", "--reviews", reviews, "--items", items)
    assert read.exit_code == 0, read.stderr
    assert json.loads(Path(read.stdout.strip()).read_text())["synthetic"] is True
    assert "sample (SYNTHETIC)" in read.stderr and "% of the items" in read.stderr and "WARNING" not in read.stderr


def test_a_sample_takes_the_place_of_a_sample_alone(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "dumps"
    reviews, _ = map(Path, invoke("sample", "--users", "60", "-o", str(folder)).stdout.splitlines())
    assert invoke("sample", "--users", "61", "-o", str(folder)).exit_code == 0
    (folder / "SYNTHETIC.txt").unlink()
    reviews.write_text("real")
    refused = invoke("sample", "--users", "60", "-o", str(folder))
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert f"{reviews} is there already and is no sample; choose another folder with -o" in refused.stderr
    assert reviews.read_text() == "real"


def test_a_missing_dump_is_one_sentence(home: Path) -> None:
    result = invoke("ingest", "--reviews", "nowhere.json.gz", "--items", "nowhere.json.gz")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "nowhere.json.gz" in result.stderr
    assert "Traceback" not in result.stderr


# run


def test_run_hands_over_and_names_the_run(filled: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    caught: dict[str, Any] = {}
    monkeypatch.setattr(
        "llmser_tasks.runs.pipeline.run_all", lambda values, **further: caught.update(values=values, **further)
    )
    result = invoke("run", "--run-id", "r1", "--pool", "15")
    assert (result.exit_code, result.stdout) == (0, "r1\n"), result.stderr
    assert (caught["values"], caught["run_id"], caught["warehouse"]) == ({"pool": 15}, "r1", filled)
    assert "SYNTHETIC" in result.stderr


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (InputError("The dump is empty; take another."), 1, "The dump is empty; take another."),
        (KeyboardInterrupt(), 130, "Interrupted; the same command with --run-id r2 continues it."),
    ],
)
def test_run_fails_with_the_sentence(
    filled: Warehouse, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, message: str
) -> None:
    def ingest(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("llmser_tasks.runs.pipeline.ingest", ingest)
    result = invoke("run", "--run-id", "r2")
    assert result.exit_code == code
    assert result.stderr.splitlines()[-1] == (
        "Error: The dump is empty; take another." if code == 1 else "Interrupted."
    )
    row = runs.load(filled, "r2")
    assert (row.state, row.message) == ("failed", message)


@pytest.mark.parametrize(
    ("run_id", "shown"),
    [
        ("", "“”"), ("a\nb", "“a\ufffdb”"), ("\x1b[31m", "“\ufffd[31m”"), ("x" * 5000, f"“{'x' * 40}…”"),
        ("a b", "“a b”"), ("-r", "“-r”"), ("latest", "“latest”"), ("../r", "“../r”"), ("r/1", "“r/1”"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("command", [["run"], ["refresh", "beauty"], ["trigger"]])
def test_a_run_id_that_no_run_may_have_is_refused(
    filled: Warehouse, monkeypatch: pytest.MonkeyPatch, command: list[str], run_id: str, shown: str
) -> None:
    monkeypatch.setattr("llmser_tasks.runs.pipeline.run_all", lambda *_, **__: pytest.fail("it ran"))
    result = invoke(*command, f"--run-id={run_id}")
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"Error: A run cannot be called {shown}: 1 to 250 letters, digits and any of _ . ~ : + -")


def test_ids_that_airflow_makes_may_be_given() -> None:
    for run_id in (
        "manual__2026-01-31T10:15:00.123456+00:00_aB3dE5fG",
        "scheduled__2026-01-31T00:00:00+00:00",
        "x" * 250,
    ):
        runs.check_id(run_id)


def test_runs_of_one_second_have_ids_of_their_own(filled: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmser_tasks.runs.pipeline.run_all", lambda *_, **__: None)
    monkeypatch.setattr("llmser_tasks.services.results.show", lambda *_: None)
    first, second = (invoke("run", "--dataset", "beauty").stdout.strip() for _ in range(2))
    assert first != second and first.startswith("beauty-") and second.startswith("beauty-")


HOLDS = """
import sys
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.warehouse.tables import runs
from llmser_tasks.warehouse.liveness import living

warehouse = Warehouse(sys.argv[1])
with living(warehouse) as owner:
    runs.create(warehouse, "shared", "beauty", {}, owner=owner)
    print("up", flush=True)
    sys.stdin.read()
"""


def test_while_one_process_is_at_work_on_a_run_no_other_is(
    filled: Warehouse, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("llmser_tasks.core.config.to_flat", lambda _: {})
    monkeypatch.setattr("llmser_tasks.runs.pipeline.augment", lambda *_: pytest.fail("it ran"))
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, filled.url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == "up\n"
        refused = invoke("run", "--run-id", "shared", "--dataset", "beauty")
        assert refused.exit_code == 1
        assert "Error: Another process is at work on run shared; wait for its end, or choose" in refused.stderr
        row = runs.load(filled, "shared")
        assert (row.state, row.message) == ("running", None), "the other one's run is no failed one"
        other.kill()
    until(lambda: runs.load(filled, "shared").state == "interrupted")
    shown = invoke("show", "shared", "steps").stderr
    assert shown.startswith(
        "Run shared of dataset beauty, interrupted: Its process ended without a word, as if killed;"
    )
    assert json.loads(invoke("show", "runs", "--format", "json").stdout)[0]["state"] == "interrupted"
    monkeypatch.setattr("llmser_tasks.runs.pipeline.augment", lambda *_: {})
    monkeypatch.setattr("llmser_tasks.runs.pipeline.compare", lambda *_: None)
    assert invoke("run", "--run-id", "shared", "--dataset", "beauty").exit_code == 0


# doctor


def test_doctor_finds_nothing_wrong_with_the_test_machine(filled: Warehouse) -> None:
    result = invoke("doctor")
    assert result.exit_code == 0, result.output
    assert "✘" not in result.stdout
    assert "PostgreSQL 18" in result.stdout


def test_doctor_says_what_to_do_and_never_shows_a_secret(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setenv("LLMSER_DATABASE_URL", f"postgresql://llmser:{SECRET}@127.0.0.1:{port}/llmser")
    monkeypatch.setenv("LLMSER_LLM_URL", f"http://127.0.0.1:{port}/v1")
    monkeypatch.setenv("LLMSER_LLM_MODEL", "glm")
    monkeypatch.setenv("LLMSER_LLM_KEY", SECRET)
    monkeypatch.setattr("llmser_tasks.commands.doctor.CHECKS", few("Postgres", "LLM"))
    result = invoke("doctor")
    assert result.exit_code == 1
    assert f"✘ Postgres   Postgres at 127.0.0.1:{port}/llmser cannot be used: " in result.stdout
    assert f"✘ LLM        glm at 127.0.0.1:{port}, with a key: does not answer (ConnectError)" in result.stdout
    assert "→ Check its address, and that it runs." in result.stdout
    assert result.stderr == "2 to mend.\n"
    assert SECRET not in result.output


def few(*names: str) -> dict[str, Any]:
    from llmser_tasks.commands.doctor import CHECKS

    return {name: CHECKS[name] for name in names}


# as a process


def llmser(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "llmser_tasks.cli", *arguments],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_help_loads_nothing_heavy() -> None:
    with llmser("--help", PYTHONPROFILEIMPORTTIME="1") as process:
        out, err = process.communicate()
    assert process.returncode == 0
    assert all(name in out for name in COMMANDS)
    for heavy in ("torch", "pandas", "pyarrow", "sqlalchemy", "pydantic", "duckdb", "httpx"):
        assert f" {heavy}\n" not in err


def test_exit_codes_of_the_process(filled: Warehouse) -> None:
    with llmser("show", "nosuch") as process:
        out, err = process.communicate()
    assert (process.returncode, out) == (1, "")
    assert err.startswith("Error: There is no run 'nosuch'")
    with llmser("shew") as process:
        process.communicate()
    assert process.returncode == 2


def test_a_reader_that_leaves_is_no_error(filled: Warehouse) -> None:
    with transaction(filled) as connection:
        rows = (("r1", "llmser", 42, f"user{n}", ["item"] * 20, [1.0] * 20) for n in range(5000))
        copy_rows(connection, "recommendations", ["run_id", "method", "seed", "user_id", "item_ids", "scores"], rows)
    for form in ("table", "csv"):
        with llmser("show", "r1", "recommendations", "--format", form) as process:
            assert process.stdout is not None and process.stderr is not None
            process.stdout.readline()
            process.stdout.close()
            err = process.stderr.read()
        assert err == "Run r1 of dataset sample, SYNTHETIC sample data, succeeded\n"
        assert process.returncode == 141


def test_ctrl_c_stops_an_embedded_server_started_for_the_command(open_folder: Path) -> None:
    home = open_folder / "interrupted home"
    environment = {k: v for k, v in os.environ.items() if k != "LLMSER_DATABASE_URL"} | {"LLMSER_HOME": str(home)}
    for sent, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        process = subprocess.Popen([sys.executable, "-c", WAITS], env=environment, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        assert embedded.running(home) is not None
        process.send_signal(sent)
        process.stdout.close()
        assert process.wait() == code
        assert embedded.running(home) is None


WAITS = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background has it ignored, and hands that on
from unittest import mock
from llmser_tasks import cli
from llmser_tasks.core import environment
from llmser_tasks.warehouse import address
from llmser_tasks.warehouse.tables import runs

address.kept_database = address.database  # which makes one

def latest(warehouse):
    print("up", flush=True)
    time.sleep(3600)

sys.argv = ["llmser", "show"]
with mock.patch.object(runs, "latest", latest):
    cli.main()
"""


def test_what_cannot_be_cleared_on_airflow_says_how_it_goes_on(
    home: Path, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMSER_DATABASE_URL", warehouse.url)
    values = {"dataset": "beauty", "reviews": "/d/my reviews.json", "items": "/d/meta.json", "seeds": [1, 2],
              "epochs": 3, "enhance_inference": False, "tail_threshold": None}  # fmt: skip
    flat = config.to_flat(settings.configuration(values))
    runs.create(warehouse, "by hand", "beauty", flat)
    batches.record(
        warehouse,
        batches.Account("by hand", "snf", 0),
        "users 0–9",
        10,
        batches.Standing("failed", answered=7, failed=3),
    )

    result = invoke("rerun-failed", "by hand")
    assert result.exit_code == 1 and result.stdout == ""
    command = result.stderr.split("this continues it: ")[1].splitlines()[0]
    arguments = shlex.split(command)
    assert arguments[:4] == ["llmser", "run", "--run-id", "by hand"]
    taken: dict[str, Any] = {}
    monkeypatch.setattr("llmser_tasks.runs.pipeline.run_all", lambda given, **_: taken.update(given))
    monkeypatch.setattr("llmser_tasks.services.results.show", lambda *_: None)
    assert invoke(*arguments[1:]).exit_code == 0
    assert config.to_flat(settings.configuration(taken)) == flat

    result = invoke("accept", "latest")
    assert result.exit_code == 0
    assert result.stdout == (
        "Accepted of run by hand: 1 batch of snf (users 0–9), at most 3 users without an answer.\n"
    )
    assert command in result.stderr
    assert acceptance.is_accepted(warehouse, "by hand", "snf", 0)
    assert "No longer accepted" in invoke("accept", "by hand", "--revoke").stdout
    assert not acceptance.is_accepted(warehouse, "by hand", "snf", 0)
    again = invoke("accept", "by hand", "--revoke")
    assert again.exit_code == 1 and "No batch of run by hand was accepted." in again.stderr
    assert "There is no run 'none'" in invoke("rerun-failed", "none").stderr


def test_show_says_who_was_accepted(filled: Warehouse) -> None:
    batches.record(
        filled,
        batches.Account("r1", "snf", 0),
        "users 0–9",
        10,
        batches.Standing("done", answered=7, failed=3, accepted=3),
    )
    assert "snf: 3 users accepted without an answer." in invoke("show", "r1", "metrics").stderr
    assert (
        next(csv.DictReader(io.StringIO(invoke("show", "r1", "batches", "--format", "csv").stdout)))["accepted"] == "3"
    )
