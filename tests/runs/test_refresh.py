"""Refreshes: who is asked again, what readers see meanwhile, and when nothing may be kept."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from endpoint_double import Double, llm, llm_server
from sqlalchemy import text
from tiny_dumps import DAY, ITEMS, SMALL, FakeEncoder, careers, write_dumps
from tiny_world import read

from llmser_tasks.core.errors import InputError
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.workspace import Artefact, Workspace
from llmser_tasks.runs import arrivals, pipeline
from llmser_tasks.texts.encoder import Encoder
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.tables import publications, runs

__all__ = ["llm", "llm_server"]

USERS = 60
LATER = 200 * DAY
CURRENT = ("current_recommendations", "current_metrics", "current_comparisons", "current_recommended_items")


@pytest.fixture(autouse=True)
def light(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LLMSER_THREADS", "1")
    monkeypatch.setenv("LLMSER_HOME", str(tmp_path))
    monkeypatch.delenv("LLMSER_INBOX", raising=False)
    monkeypatch.setattr(Encoder, "open", FakeEncoder.open)


@pytest.fixture
def values(tmp_path: Path) -> dict[str, Any]:
    return SMALL | {"dataset": "tiny", "gate": None} | write_dumps(tmp_path / "dumps", careers(USERS))


Go = Callable[..., str]


@pytest.fixture
def go(tmp_path: Path, values: dict[str, Any], warehouse: Warehouse, llm: Double) -> Go:
    """Run the pipeline to its end, with these settings over the usual ones."""

    def run(run_id: str, **knobs: Any) -> str:
        llm.reset()
        where = {"workspace": Workspace(tmp_path / "artefacts"), "warehouse": warehouse}
        return pipeline.run_all(values | knobs, endpoint=llm.endpoint, run_id=run_id, **where)

    return run


def arrive(folder: Path, name: str, interactions: list[tuple[str, int, int]], settled: bool = True) -> Path:
    """Put a file into the inbox of dataset tiny; (user, item, seconds) each."""
    path = folder / "inbox" / "tiny" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        for user, item, when in interactions:
            file.write(
                json.dumps({"reviewerID": user, "asin": f"A{item:03d}", "unixReviewTime": when, "overall": 5}) + "\n"
            )
    if settled:
        before = time.time() - 3600
        os.utime(path, (before, before))
    return path


def rows(warehouse: Warehouse, query: str, **given: Any) -> list[dict[str, Any]]:
    with transaction(warehouse) as connection:
        return [dict(row) for row in connection.execute(text(query), given).mappings()]


def asked(warehouse: Warehouse, run_id: str) -> dict[str, tuple[int, int]]:
    """Users and calls by step."""
    found = rows(warehouse, "select step, users, calls from run_costs where run_id = :r", r=run_id)
    return {row["step"]: (row["users"], row["calls"]) for row in found}


def seen(warehouse: Warehouse) -> list[Any]:
    """Everything that readers are given, all tables as of one moment."""
    with transaction(warehouse) as connection:
        connection.execute(text("set transaction isolation level repeatable read"))
        return [connection.execute(text(f"select * from {view} order by 1, 2, 3, 4, 5, 6")).all() for view in CURRENT]


def again(go: Go, warehouse: Warehouse, run_id: str, **knobs: Any) -> str:
    """A refresh, with the settings that it has by itself."""
    return go(run_id, **arrivals.values(warehouse, "tiny") | knobs)


# Who is asked, and what is kept --------------------------------------------------------------------------------------

NEW_ITEM = 0  # its id sorts before all others, so that every item and pool is numbered anew
CHANGED = {"U001", "U002", "U003", "U999"}


def four_users_come(folder: Path) -> None:
    people = careers(USERS)
    arrive(folder, "2026-01-01.json", [("U001", people["U001"][0] % ITEMS + 1, LATER)])
    late = [("U002", 3, DAY), ("U002", 4, LATER), ("U003", NEW_ITEM, LATER), ("U003", 2, LATER + 1)]
    arrive(folder, "2026-01-02.json", late)
    arrive(folder, "2026-01-03.json", [("U999", item, LATER + item) for item in (NEW_ITEM, 7, 8, 9)])
    arrive(folder, "2026-01-04.json", [("U003", NEW_ITEM, LATER + 2)])
    meta = arrive(folder, "items/meta.json", [])
    meta.write_text(json.dumps({"asin": "A000", "title": "Brand new thing"}) + "\n")
    os.utime(meta, (1e9, 1e9))


def test_only_who_changed_is_asked_and_the_others_keep_what_they_had(
    go: Go, tmp_path: Path, warehouse: Warehouse, llm: Double
) -> None:
    go("full")
    four_users_come(tmp_path)
    again(go, warehouse, "refresh")

    bill = asked(warehouse, "refresh")
    assert {users for users, _ in bill.values()} == {len(CHANGED)} and set(bill) == {"snf", "reason"}
    assert 0 < sum(calls for _, calls in bill.values()) == len(llm.asked) <= 2 * len(CHANGED)
    picked = "select user_id, step, item_ids, sources, reason, question_key from picks where run_id = :r order by 1, 2"
    before = {(row["user_id"], row["step"]): row for row in rows(warehouse, picked, r="full")}
    after = {(row["user_id"], row["step"]): row for row in rows(warehouse, picked, r="refresh")}
    assert set(after) == set(before) | {("U999", "snf"), ("U999", "reason")}
    assert all(after[key] == row for key, row in before.items() if key[0] not in CHANGED)
    kept = "select user_id, item_ids, titles from pseudo_items where run_id = :r and user_id <> all(:c) order by 1"
    assert rows(warehouse, kept, r="full", c=list(CHANGED)) == rows(warehouse, kept, r="refresh", c=list(CHANGED))
    (compared,) = rows(warehouse, "select summary from steps where run_id = 'refresh' and step = 'changes'")
    assert compared["summary"] == {"kept": USERS - 3, "changed": 3, "new": 1, "new_items": 1, "obstacle": None}


def test_models_go_on_and_items_that_are_new_have_their_rows(go: Go, tmp_path: Path, warehouse: Warehouse) -> None:
    go("full")
    four_users_come(tmp_path)
    again(go, warehouse, "refresh", warm_epochs=1)
    summaries = {
        row["step"]: row["summary"]
        for row in rows(warehouse, "select step, summary from steps where run_id = 'refresh'")
    }
    for step in ("reverse", "forward", "base", "llmser"):
        assert summaries[step]["epochs"] == 1, f"{step} did not go on from the earlier model"
    assert summaries["ccg"]["taken_over"] == USERS - 3
    offered = "select count(*) as n from recommended_items where run_id = 'refresh' and item_id = 'A000'"
    assert rows(warehouse, "select count(*) as n from recommendations where run_id = 'refresh'")[0]["n"] == USERS + 1
    assert rows(warehouse, offered)[0]["n"] > 0, "nobody is offered the new item"


def test_what_a_search_found_is_taken_over_and_not_searched_again(go: Go, tmp_path: Path, warehouse: Warehouse) -> None:
    go("full", methods=["base", "llmser"], search="3", publish="searched")
    four_users_come(tmp_path)
    again(go, warehouse, "refresh", warm_epochs=1)
    statement = "select step, summary from steps where run_id = :r"
    before, after = (
        {row["step"]: row["summary"] for row in rows(warehouse, statement, r=name)} for name in ("full", "refresh")
    )
    assert not before["search"]["taken_over"] and after["search"] == before["search"] | {"taken_over": True}
    assert after["searched"]["epochs"] == 1, "it did not go on from the earlier model"
    assert runs.load(warehouse, "refresh").state == "succeeded"
    again(go, warehouse, "third", methods=["base"], publish="best", warm_epochs=1)
    (third,) = rows(warehouse, f"{statement} and step = 'search'", r="third")
    best = next(row for row in before["search"]["tried"] if row["chosen"])
    assert third["summary"]["taken_over"] is best["title"].startswith("base")


def test_a_refresh_of_a_refresh_keeps_on(go: Go, tmp_path: Path, warehouse: Warehouse) -> None:
    go("full")
    arrive(tmp_path, "1.json", [("U001", NEW_ITEM, LATER)])
    again(go, warehouse, "first")
    arrive(tmp_path, "2.json", [("U004", 1, LATER)])
    again(go, warehouse, "second")
    assert runs.load(warehouse, "second").refreshes == "first"
    assert {users for users, _ in asked(warehouse, "second").values()} == {1}


def test_nothing_new_asks_and_trains_nothing(go: Go, warehouse: Warehouse, llm: Double) -> None:
    go("full")
    again(go, warehouse, "refresh")
    assert llm.asked == [] and asked(warehouse, "refresh") == {}
    steps = rows(warehouse, "select step, state from steps where run_id = 'refresh'")
    states = {row["step"]: row["state"] for row in steps}
    for step in ("ingest", "reverse", "forward", "base", "llmser", "evaluation"):
        assert states[step] == "unchanged", step


def test_nothing_new_searches_and_trains_nothing_of_what_was_found(go: Go, warehouse: Warehouse) -> None:
    go("full", methods=["base", "llmser"], search="3")
    again(go, warehouse, "refresh")
    steps = rows(warehouse, "select step, state, summary from steps where run_id = 'refresh'")
    assert {row["step"]: row["state"] for row in steps}["searched"] == "unchanged"
    (found,) = (row["summary"] for row in steps if row["step"] == "search")
    assert found["taken_over"]


def test_who_got_no_answer_is_asked_now(go: Go, warehouse: Warehouse, llm: Double) -> None:
    go("full")
    with transaction(warehouse) as connection:
        connection.execute(text("delete from picks where user_id = 'U005' and step = 'reason'"))
        connection.execute(
            text("update picks set reason = 'unanswered: timeout', item_ids = '{}' where user_id = 'U006'")
        )
    again(go, warehouse, "refresh")
    assert {users for users, _ in asked(warehouse, "refresh").values()} == {2}


@pytest.mark.parametrize("parts", [["ccg"], ["snf"], ["arv"], ["rcs"], ["reason"], ["wd"]])
def test_every_ablation_can_be_refreshed(go: Go, tmp_path: Path, warehouse: Warehouse, parts: list[str]) -> None:
    go("full", without=parts)
    publications.publish(warehouse, "full")
    arrive(tmp_path, "1.json", [("U001", NEW_ITEM, LATER)])
    again(go, warehouse, "refresh")
    assert runs.load(warehouse, "refresh").state == "succeeded"
    assert {users for users, _ in asked(warehouse, "refresh").values()} <= {1}


@pytest.mark.parametrize(
    ("knobs", "why"), [({"pool": 5}, r"other settings \(pool\)"), ({"seeds": [7]}, r"other settings \(seeds\)")]
)
def test_with_other_settings_everything_is_made_anew_and_says_so(
    go: Go, warehouse: Warehouse, knobs: dict[str, Any], why: str
) -> None:
    go("full")
    go("other", **arrivals.values(warehouse, "tiny") | knobs)
    (row,) = rows(warehouse, "select summary from steps where run_id = 'other' and step = 'changes'")
    assert re.search(why, row["summary"]["full"])


def test_a_refresh_of_a_run_from_before_ties_were_a_setting_keeps_the_files_order(go: Go, warehouse: Warehouse) -> None:
    go("first", ties="file")
    with transaction(warehouse) as connection:
        connection.execute(text("update runs set config = config - 'ties'"))
    values = arrivals.values(warehouse, "tiny")
    assert values["ties"] == "file"
    go("second", **values)
    (row,) = rows(warehouse, "select summary from steps where run_id = 'second' and step = 'changes'")
    assert "full" not in row["summary"]


def test_where_interactions_are_taken_away_nothing_is_kept(
    go: Go, tmp_path: Path, warehouse: Warehouse, values: dict[str, Any]
) -> None:
    path = arrive(tmp_path, "1.json", [("U001", 1, LATER), ("U001", 2, LATER + 1)])
    go("full")
    path.unlink()
    again(go, warehouse, "refresh")
    (row,) = rows(warehouse, "select summary from steps where run_id = 'refresh' and step = 'changes'")
    assert "are gone" in row["summary"]["full"]


def test_a_dataset_that_nobody_knows_is_refused_in_a_sentence(go: Go, warehouse: Warehouse) -> None:
    with pytest.raises(InputError, match=r"no dataset '\.\./\.\./etc' to refresh; there are: .*beauty"):
        arrivals.values(warehouse, "../../etc\n")
    assert arrivals.values(warehouse, "beauty") == {"dataset": "beauty", "incremental": True}


def test_a_refresh_knows_nothing_of_held_out_items(
    tmp_path: Path, warehouse: Warehouse, llm: Double, values: dict[str, Any], go: Go
) -> None:
    """Two worlds with the same past, to which interactions come that differ in what is held out alone."""
    go("full")
    made = []
    for name, (second, last) in {"one": (1, 2), "other": (2, 1)}.items():
        people = careers(USERS)
        arrive(tmp_path, "1.json", [(user, 24 - (place % 2), LATER) for place, user in enumerate(list(people)[:8])])
        later = [(user, item, LATER + DAY * at) for user in list(people)[:8] for at, item in ((1, second), (2, last))]
        arrive(tmp_path, "2.json", later)
        run = pipeline.start(
            name,
            arrivals.values(warehouse, "tiny"),
            workspace=Workspace(tmp_path / "artefacts"),
            warehouse=warehouse,
        )
        made.append((run, pipeline.augment(run, llm.endpoint)))
    (run, ours), (_, theirs) = made
    assert "changes" in ours and ours["validation"]["content"] != theirs["validation"]["content"]
    for name in ("training", "changes", "reverse", "ccg", "pseudo", "forward", "rcs", "reliability"):
        assert ours[name]["content"] == theirs[name]["content"], f"{name} knows something of the held-out items"


# What arrives --------------------------------------------------------------------------------------------------------


def test_duplicate_late_and_unfinished_files_are_harmless(
    tmp_path: Path, values: dict[str, Any], warehouse: Warehouse
) -> None:
    workspace = Workspace(tmp_path / "artefacts")

    def content(run_id: str) -> Any:
        run = pipeline.start(run_id, values, workspace=workspace, warehouse=warehouse)
        made = Artefact(**pipeline.ingest(run)["ingest"])
        table = read(workspace, made, "interactions.parquet").drop_columns(["line"])
        return table.to_pylist(), workspace.summary(made)["inbox"]

    first = [("U001", 1, LATER), ("U002", 2, LATER)]
    second = [("U001", 3, LATER + 1), ("U003", 4, LATER)]
    arrive(tmp_path, "b.json", second)
    early, _ = content("early")
    arrive(tmp_path, "a.json", first)
    expected, files = content("both")
    assert len(expected) == len(early) + 2 and files == 2
    for name in ("a copy.json", "z.json"):
        arrive(tmp_path, name, second)
    arrive(tmp_path, "c.json", [*first, *second[:1]])  # other bytes, nothing new
    arrive(tmp_path, "half.json.part", [("U001", 9, LATER)])
    arrive(tmp_path, ".hidden.json", [("U001", 9, LATER)])
    arrive(tmp_path, "growing.json", [("U001", 9, LATER)], settled=False)
    arrive(tmp_path, "empty.json", [])
    (tmp_path / "inbox" / "tiny" / "link.json").symlink_to(tmp_path / "dumps" / "meta.json")
    assert content("more")[0] == expected


# What readers see ----------------------------------------------------------------------------------------------------


def test_readers_see_the_old_results_until_the_switch_and_after_a_rollback(
    go: Go, tmp_path: Path, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    go("full")
    old = seen(warehouse)
    assert all(old)
    four_users_come(tmp_path)
    meanwhile: list[bool] = []
    step = pipeline._step

    def watched(*of: Any) -> Any:
        meanwhile.append(seen(warehouse) == old)
        return step(*of)

    monkeypatch.setattr(pipeline, "_step", watched)
    again(go, warehouse, "refresh")
    new = seen(warehouse)
    assert len(meanwhile) > 12 and all(meanwhile)
    assert new != old and {row.run_id for table in new for row in table} == {"refresh"}

    assert publications.rollback(warehouse, "tiny").run_id == "full"
    assert [[row[2:] for row in table] for table in seen(warehouse)] == [[row[2:] for row in table] for table in old]
    with pytest.raises(InputError, match="Nothing of dataset tiny was published before run full"):
        publications.rollback(warehouse, "tiny")
    assert publications.rollback(warehouse, "tiny", "refresh").version == 4


STEPS = (
    "ingest", "sequences", "changes", "reverse", "ccg", "forward", "estimate", "snf", "pseudo", "rcs", "reason",
    "reliability", "base", "llmser", "evaluation",
)  # fmt: skip


@contextmanager
def looked_at(warehouse: Warehouse) -> Iterator[Counter[str]]:
    """Counts which run readers were given, look after look, until the block ends."""
    over, given = threading.Event(), Counter[str]()

    def look() -> None:
        while not over.is_set():
            given["|".join(sorted({row.run_id for table in seen(warehouse) for row in table}))] += 1

    reader = threading.Thread(target=look, daemon=True)
    reader.start()
    try:
        yield given
    finally:
        over.set()
        reader.join()


def killed(refresh: Callable[[], str], patched: pytest.MonkeyPatch, module: Any, name: str, deadly: Any) -> None:
    """A refresh in a process of its own, whose `deadly` ends it by signal 9."""
    with patched.context() as patch:
        patch.setattr(module, name, deadly)
        process = multiprocessing.get_context("fork").Process(target=refresh)
        process.start()
        process.join()
    assert process.exitcode == -signal.SIGKILL


def test_killed_in_every_step_readers_never_see_a_mixture(
    go: Go, tmp_path: Path, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    go("full")
    old = seen(warehouse)
    four_users_come(tmp_path)
    step, switch = pipeline._step, publications._switch

    def refresh() -> str:
        return again(go, warehouse, "refresh")

    def dying_in(fatal: str) -> Any:
        @contextmanager
        def until_it_is_done(run: Any, name: str, part: str = "") -> Iterator[Any]:
            with step(run, name, part) as recorder:
                yield recorder
                if name == fatal:  # all of it is made, and nobody has said so yet
                    os.kill(os.getpid(), signal.SIGKILL)

        return until_it_is_done

    def switch_and_die(*given: Any) -> None:
        switch(*given)
        os.kill(os.getpid(), signal.SIGKILL)

    with looked_at(warehouse) as given:
        for name in STEPS:
            killed(refresh, monkeypatch, pipeline, "_step", dying_in(name))
            steps = rows(warehouse, "select step, state from steps where run_id = 'refresh'")
            assert {row["state"] for row in steps if row["step"] == name} == {"running"}, name
            assert seen(warehouse) == old, name
        killed(refresh, monkeypatch, publications, "_switch", switch_and_die)
        assert seen(warehouse) == old, "a switch that was not committed"
        refresh()
    assert set(given) <= {"full", "refresh"} and given["full"] > len(STEPS)
    assert {row.run_id for table in seen(warehouse) for row in table} == {"refresh"}


# The gate ------------------------------------------------------------------------------------------------------------


def test_a_refresh_that_is_much_worse_is_kept_from_readers_until_somebody_says_so(
    go: Go, tmp_path: Path, warehouse: Warehouse
) -> None:
    go("full")
    with transaction(warehouse) as connection:
        connection.execute(text("update validations set ndcg = 2.0 where run_id = 'full'"))
    old = seen(warehouse)
    arrive(tmp_path, "1.json", [("U001", 1, LATER)])
    go("worse", **arrivals.values(warehouse, "tiny") | {"gate": 0.05})
    row = runs.load(warehouse, "worse")
    assert row.state == "succeeded"
    assert "is not published: its validation NDCG@10 of" in str(row.unpublished)
    assert "below the 2.0000 of run full" in str(row.unpublished)
    assert seen(warehouse) == old
    assert rows(warehouse, "select count(*) as n from recommendations where run_id = 'worse'")[0]["n"] == USERS

    assert publications.publish(warehouse, "worse").version == 2
    assert runs.load(warehouse, "worse").unpublished is None
    assert {row.run_id for table in seen(warehouse) for row in table} == {"worse"}
