"""SNF: what is asked, what is made of the answers, and that nothing is paid twice."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from endpoint_double import Block, Double, by_title
from sqlalchemy import text
from tiny_world import World, make_lists, make_world

from llmser_tasks.asking import ask as asking
from llmser_tasks.asking.ask import Batch, Unanswered, plan
from llmser_tasks.asking.picks import Picks
from llmser_tasks.asking.questions import Inquiry
from llmser_tasks.core import config
from llmser_tasks.core.errors import InputError
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.run import Run
from llmser_tasks.core.workspace import Workspace
from llmser_tasks.llm import answers
from llmser_tasks.llm.errors import EndpointFatal, Nonsense
from llmser_tasks.llm.prompts import PickQuestion
from llmser_tasks.llm.thinking import aloud
from llmser_tasks.methods.llmser import snf
from llmser_tasks.sequences.catalogue import Catalogue
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.retention import NO_USABLE_ANSWER
from llmser_tasks.warehouse.tables import acceptance

TITLES = [f"thing {n}" for n in range(1, 9)] + [None, None]
HISTORIES = {0: [1, 2, 3], 2: [4], 3: [9, 10], 5: [4], 7: [2, 9]}
POOLS = {0: [5, 6, 9, 7], 2: [1, 2], 3: [1, 2], 5: [1, 2], 7: [9, 10]}

# sha256 of the instructions for lamps, two of four
PAID_FOR = "068ef2e49c8f527b01618e258c3dae300746ada6f38378d51a8b700f6ef78320"

Ask = Callable[..., dict[str, Any]]


@pytest.fixture
def world(workspace: Workspace) -> World:
    return make_world(workspace, HISTORIES, TITLES)


@pytest.fixture
def ask(world: World, llm: Double, warehouse: Warehouse, run_id: str) -> Ask:
    """Ask about all five users in one batch."""
    ccg = make_lists(world.workspace, "ccg", "pools.parquet", POOLS)
    made = {"training": world.training, "catalogue": world.catalogue, "ccg": ccg}
    refs = {name: artefact.reference() for name, artefact in made.items()}

    def run(llm_config: config.Llm | None = None, batch: Batch | None = None) -> dict[str, Any]:
        run = Run(run_id, configured(llm_config or config.Llm()), world.workspace, warehouse)
        return asking.ask_batch(run, refs, snf.STEP, batch or Batch(0, 0, 4, "users 0–4"), llm.endpoint)

    return run


def batch_row(warehouse: Warehouse) -> dict[str, Any]:
    with transaction(warehouse) as connection:
        return dict(connection.execute(text("select * from batches")).mappings().one())


def configured(llm: config.Llm) -> config.RunConfig:
    return config.RunConfig(
        dataset=config.Dataset(noun="lamp"), augmentation=config.Augmentation(pseudo_items=2), llm=llm
    )


def inquire(catalogue: Catalogue, history: list[int], pool: list[int], **llm: Any) -> Inquiry:
    given = {"ccg": np.array(pool, np.int32)}
    return snf.inquire(0, np.array(history, np.int32), given, catalogue, configured(config.Llm(**llm)))


def test_a_question_shows_the_newest_history_reversed_and_every_titled_candidate(world: World) -> None:
    question = inquire(world.known, [1, 9, 2, 3], [5, 6, 9, 7], history_length=2).question
    assert question is not None
    block = json.loads(question.messages[-1]["content"])
    assert block["history"] == ["thing 3", "thing 2"]
    assert sorted(c["title"] for c in block["candidates"]) == ["thing 5", "thing 6", "thing 7"]
    assert question.picks == 2
    assert question.prompt_version == snf.PROMPT_VERSION
    instructions = question.messages[0]["content"]
    assert "one lamp" in instructions
    assert "pick the 2 candidates" in instructions
    assert not any(title in instructions for title in TITLES if title)


def test_a_question_shows_what_describes_items_and_matches_their_titles(world: World) -> None:
    texts = [title and f"{title}. Kind {n}" for n, title in enumerate(TITLES)]
    inquiry = inquire(replace(world.known, told=pa.array(texts, pa.string())), [9, 1, 2], [5, 9, 6])
    assert inquiry.question is not None
    block = json.loads(inquiry.question.messages[-1]["content"])
    assert block["history"] == ["thing 2. Kind 1", "thing 1. Kind 0"]
    assert sorted(c["title"] for c in block["candidates"]) == ["thing 5. Kind 4", "thing 6. Kind 5"]
    assert sorted(inquiry.question.choices) == ["thing 5", "thing 6"]
    assert inquiry.question != inquire(world.known, [9, 1, 2], [5, 9, 6]).question


def asked_with(world: World, **augmentation: Any) -> PickQuestion:
    made = config.RunConfig(dataset=config.Dataset(noun="lamp"), augmentation=config.Augmentation(**augmentation))
    given = {"ccg": np.array([5, 6, 7, 8], np.int32)}
    question = snf.inquire(0, np.array([1, 2], np.int32), given, world.known, made).question
    assert question is not None
    return question


def test_the_papers_pool_is_asked_about_in_the_words_that_answers_were_paid_for(world: World) -> None:
    words = asked_with(world, pseudo_items=2).messages[0]["content"]
    assert hashlib.sha256(words.encode()).hexdigest() == PAID_FOR


def test_a_joined_pool_says_where_its_candidates_come_from(world: World) -> None:
    words = asked_with(world, pseudo_items=2, pool_from=["titles", "ccg"]).messages[0]["content"]
    assert (
        '"candidates": what people with similar histories chose early on, and what is called much like the earliest '
        "entries of the history. They were found by counting alone or by comparing titles, in no particular order here"
    ) in words


def test_who_asks_for_the_same_number_shares_answers_whatever_is_kept_of_them(world: World) -> None:
    kept = [asked_with(world, pseudo_items=kept, asked_items=4).key("m") for kept in (2, 3, 4)]
    assert set(kept) == {asked_with(world, pseudo_items=4).key("m")}
    assert asked_with(world, pseudo_items=2).key("m") not in kept


@pytest.mark.parametrize("asked", [2, 21])
def test_fewer_cannot_be_asked_for_than_are_kept_nor_more_than_there_are(asked: int) -> None:
    with pytest.raises(InputError, match=r"asked_items must lie between pseudo_items \(M\) and pool \(N\)"):
        config.from_flat({"pseudo_items": 3, "asked_items": asked})


@pytest.mark.parametrize(
    ("history", "pool", "reason"),
    [([9, 10], [1], snf.NO_HISTORY), ([1], [9, 10], snf.NO_CANDIDATE), ([1], [], snf.NO_CANDIDATE)],
)
def test_nothing_is_asked_where_nothing_has_a_title(
    world: World, history: list[int], pool: list[int], reason: str
) -> None:
    inquiry = inquire(world.known, history, pool)
    assert inquiry.question is None
    assert inquiry.reason == reason


def test_picks_are_the_answers_items_likeliest_first(
    ask: Ask, llm: Double, world: World, warehouse: Warehouse, run_id: str
) -> None:
    def highest(block: Block, _: Any) -> str:
        ids = [c["id"] for c in sorted(block["candidates"], key=lambda c: c["title"], reverse=True)]
        return json.dumps({"picks": ids[:2]})

    llm.script = highest
    counts = ask()
    picks = Picks.read(warehouse, run_id, "snf", world.known)
    assert picks.of(0) == ([7, 6], ["strict", "strict"], None)
    assert picks.of(2) == picks.of(5) == ([2, 1], ["strict", "strict"], None)
    assert picks.of(3) == ([], [], snf.NO_HISTORY)
    assert picks.of(7) == ([], [], snf.NO_CANDIDATE)
    assert counts["calls"] == len(llm.asked) == 2, "users 2 and 5 have one question between them"
    assert counts["answered"] == counts["users"] == 5
    row = batch_row(warehouse)
    assert (row["state"], row["answered"], row["calls"], row["prompt_tokens"]) == ("done", 5, 2, 200)
    with transaction(warehouse) as connection:
        seeds = connection.execute(text("select shuffle_seed from picks where question_key is not null")).scalars()
        assert None not in list(seeds)


def test_a_rerun_asks_nothing_and_says_the_same(
    ask: Ask, llm: Double, world: World, warehouse: Warehouse, run_id: str
) -> None:
    ask()
    before = Picks.read(warehouse, run_id, "snf", world.known).content()
    llm.reset()
    counts = ask()
    assert llm.asked == []
    assert (counts["calls"], counts["from_ledger"]) == (0, 2)
    assert Picks.read(warehouse, run_id, "snf", world.known).content() == before
    assert batch_row(warehouse)["calls"] == 2


def test_a_batch_that_fails_half_way_keeps_what_was_answered_and_asks_only_for_the_rest(
    ask: Ask, llm: Double, world: World, warehouse: Warehouse, run_id: str
) -> None:
    def moody(block: Block, schema: dict[str, Any]) -> Any:
        if len(block["history"]) > 1:
            return 429, {"error": {"code": "rate_limit_exceeded", "message": "slow down"}}
        return by_title(block, schema)

    llm.script = moody
    with pytest.raises(Unanswered, match=r"^1 of 3 unanswered: 1 × rate limit; a rerun asks only for these") as caught:
        ask()
    assert caught.value.users_without_answer == {"rate limit": 1}
    row = batch_row(warehouse)
    assert (row["state"], row["answered"], row["failed"]) == ("failed", 4, 1)
    assert "unanswered" in row["message"]
    picks = Picks.read(warehouse, run_id, "snf", world.known)
    assert len(picks.of(2)[0]) == 2
    with pytest.raises(InputError, match="1 of 5 users of run r1 have not been through snf"):
        picks.require(world.histories.users)

    llm.reset()
    counts = ask()
    assert [block["history"] for block in llm.asked] == [["thing 3", "thing 2", "thing 1"]]
    assert (counts["calls"], counts["from_ledger"]) == (1, 1)
    assert batch_row(warehouse)["state"] == "done"
    Picks.read(warehouse, run_id, "snf", world.known).require(world.histories.users)


def test_tolerated_failures_are_noted_and_asked_again_by_a_rerun(
    ask: Ask, llm: Double, world: World, warehouse: Warehouse, run_id: str
) -> None:
    llm.script = lambda block, schema: (
        (500, {"error": {"message": "broken"}}) if len(block["history"]) > 1 else by_title(block, schema)
    )
    counts = ask(config.Llm(tolerated_failures=0.2))
    assert (counts["failed"], counts["answered"]) == (1, 4)
    picks = Picks.read(warehouse, run_id, "snf", world.known)
    assert picks.of(0) == ([], [], "unanswered: server error")
    llm.reset()
    ask(config.Llm(tolerated_failures=0.2))
    assert len(llm.asked) == 1
    assert Picks.read(warehouse, run_id, "snf", world.known).of(0)[2] is None


def test_a_refused_key_fails_the_batch_with_its_sentence(ask: Ask, llm: Double, warehouse: Warehouse) -> None:
    llm.script = lambda *_: (401, {"error": {"code": "invalid_api_key", "message": "no"}})
    with pytest.raises(EndpointFatal, match="refuses its key") as caught:
        ask()
    row = batch_row(warehouse)
    assert caught.value.users_without_answer == {"key refused": row["failed"]}, "also those whose turn never came"
    assert row["state"] == "failed" and "refuses its key" in row["message"]
    assert row["calls"] == len(llm.asked) > 0  # what was sent before the end counts too


def test_a_filtered_prompt_is_settled_for_good(
    ask: Ask, llm: Double, world: World, warehouse: Warehouse, run_id: str
) -> None:
    llm.script = lambda *_: (400, {"error": {"code": "content_filter", "message": "no"}})
    ask()
    assert Picks.read(warehouse, run_id, "snf", world.known).of(0) == ([], [], "content-filter")
    llm.reset()
    ask()
    assert llm.asked == []


def test_an_unusable_answer_is_no_pick(ask: Ask, llm: Double, world: World, warehouse: Warehouse, run_id: str) -> None:
    llm.script = lambda *_: "I would rather not say."
    ask()
    assert Picks.read(warehouse, run_id, "snf", world.known).of(0) == ([], [], NO_USABLE_ANSWER)


def test_an_endpoint_that_talks_nonsense_is_stopped_early_and_again_by_a_rerun(
    ask: Ask, llm: Double, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "JUDGED_FROM", 2)
    llm.endpoint = replace(llm.endpoint, max_concurrency=1)
    llm.script = lambda block, schema: "What a <b>lovely</b> day!"
    with pytest.raises(Nonsense, match=r"Only 0 of 2 answers of LLM endpoint double .* “What a lovely day!”"):
        ask()
    assert len(llm.asked) == 2 and batch_row(warehouse)["state"] == "failed"
    with pytest.raises(Nonsense, match="Only 0 of 2"):
        ask()
    assert len(llm.asked) == 2  # what was said before is judged before more is paid for
    ask(config.Llm(least_usable=0))
    assert batch_row(warehouse)["state"] == "done"


def test_an_answer_is_read_once_whoever_shares_it(ask: Ask, llm: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def noted(said: str) -> str:
        read.append(said)
        return aloud(said)

    monkeypatch.setattr(answers, "aloud", noted)
    ask()
    assert len(llm.asked) == len(read) == 2, "three users, two questions"
    read.clear()
    ask()
    assert len(read) == 2, "as the ledger has them"


def test_what_an_answer_invents_is_counted(ask: Ask, llm: Double, warehouse: Warehouse) -> None:
    llm.script = lambda block, schema: json.dumps({"picks": ["c01", "c77", "a thing that is not there"]})
    ask()
    with transaction(warehouse) as connection:
        rows = connection.execute(text("select invented, item_ids from picks where question_key is not null")).all()
        quality = connection.execute(text("select * from answer_quality")).mappings().one()
    assert {row.invented for row in rows} == {2} and all(len(row.item_ids) == 1 for row in rows)
    assert (quality["users"], quality["invented"], quality["strict"]) == (len(rows), 2 * len(rows), len(rows))
    assert (quality["answered_by"], quality["without_picks"]) == ("double-1", 0)


@pytest.mark.parametrize("at_once", [1, 4])
def test_batches_run_side_by_side_touch_only_their_users(
    ask: Ask, llm: Double, world: World, warehouse: Warehouse, run_id: str, at_once: int
) -> None:
    llm.endpoint = replace(llm.endpoint, max_concurrency=at_once)
    batches = plan(5, 2)
    threads = [threading.Thread(target=ask, kwargs={"batch": batch}) for batch in batches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    Picks.read(warehouse, run_id, "snf", world.known).require(world.histories.users)


def test_plan_covers_every_row_once_and_makes_at_most_300_batches() -> None:
    assert [(b.first, b.last, b.label) for b in plan(5, 2)] == [
        (0, 1, "users 0–1"),
        (2, 3, "users 2–3"),
        (4, 4, "users 4–4"),
    ]
    many = plan(1_000_001, 512)
    assert len(many) <= 300
    assert [b.first for b in many] == [0, *[b.last + 1 for b in many[:-1]]]
    assert many[-1].last == 1_000_000
    assert plan(0, 10) == []


def limited(block: Block, schema: dict[str, Any]) -> Any:
    """Answers short histories only."""
    if len(block["history"]) > 1:
        return 429, {"error": {"code": "rate_limit_exceeded", "message": "slow down"}}
    return by_title(block, schema)


def refusing(*_: Any) -> Any:
    return 401, {"error": {"code": "invalid_api_key", "message": "no"}}


@pytest.mark.parametrize(("script", "error"), [(limited, Unanswered), (refusing, EndpointFatal)])
def test_an_accepted_batch_asks_nothing_and_goes_on_without_who_has_no_answer(
    ask: Ask, llm: Double, world: World, warehouse: Warehouse, run_id: str, script: Any, error: type[Exception]
) -> None:
    llm.script = script
    with pytest.raises(error):
        ask()
    open_ = batch_row(warehouse)["failed"]
    assert [p.missing for p in acceptance.accept(warehouse, run_id)] == [open_] and open_ > 0
    llm.asked.clear()

    counts = ask()
    assert llm.asked == [] and counts["calls"] == 0
    assert (counts["failed"], counts["accepted"]) == (open_, open_)
    row = batch_row(warehouse)
    assert (row["state"], row["answered"], row["failed"], row["accepted"]) == ("done", 5 - open_, open_, open_)
    assert row["message"] == f"{open_} users accepted without an answer."
    picks = Picks.read(warehouse, run_id, "snf", world.known)
    picks.require(world.histories.users)
    assert picks.of(0) == ([], [], "unanswered: accepted")
    assert bool(picks.of(2)[0]) == (script is limited), "answers that are there count"


def test_taken_back_it_asks_for_who_is_missing(
    ask: Ask, llm: Double, world: World, warehouse: Warehouse, run_id: str
) -> None:
    llm.script = limited
    with pytest.raises(Unanswered):
        ask()
    acceptance.accept(warehouse, run_id)
    ask()
    assert [(p.step, p.batch, p.missing) for p in acceptance.revoke(warehouse, run_id)] == [("snf", 0, 1)]
    assert (batch_row(warehouse)["state"], batch_row(warehouse)["accepted"]) == ("failed", 0)
    llm.reset()
    ask()
    assert [len(block["history"]) for block in llm.asked] == [3]
    assert Picks.read(warehouse, run_id, "snf", world.known).of(0)[0]
    assert (batch_row(warehouse)["state"], batch_row(warehouse)["failed"]) == ("done", 0)
