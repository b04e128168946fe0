"""Users summarised by an LLM: what is asked, what is made of the answers, and that nothing is paid twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import llm_double
import numpy as np
import pytest
from endpoint_double import Block, Double, by_title, llm, llm_server, run_id
from patience import until
from sqlalchemy import text
from tiny_dumps import FakeEncoder
from tiny_world import World, make_world

from llmser_tasks.asking import ask as asking
from llmser_tasks.asking.ask import Batch, Unanswered, plan
from llmser_tasks.asking.user_texts import UserTexts
from llmser_tasks.core.errors import InputError, Waiting
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.kinds import STEPS
from llmser_tasks.core.workspace import Artefact, Workspace
from llmser_tasks.llm import dialects
from llmser_tasks.llm.client import ATTEMPTS
from llmser_tasks.llm.endpoint import RANKER_MODEL, Endpoint
from llmser_tasks.llm.errors import Nonsense
from llmser_tasks.methods.llm_esr import user_summary
from llmser_tasks.texts.encoder import Encoder
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.retention import NO_USABLE_ANSWER
from llmser_tasks.warehouse.tables import acceptance

__all__ = ["llm", "llm_server", "run_id"]

TITLES = ["soap", "comb", "brush", None, "towel"]
HISTORIES = {2: [1, 2], 4: [3], 6: [4, 4], 9: [3], 11: [2, 1, 3]}  # users 4 and 9 have one question, user 6 has none
HOSTILE = "Likes <img src=x onerror=alert(1)>roses\x1b[31m\u202e'; drop table user_texts; -- and ${jndi:x}"
WANTED = {"methods": ["base", "llm-esr"], "user_vectors": "summary", "endpoint": "double"}

Ask = Callable[..., dict[str, Any]]


@pytest.fixture
def world(workspace: Workspace) -> World:
    return make_world(workspace, HISTORIES, TITLES)


@pytest.fixture
def ask(world: World, llm: Double, warehouse: Warehouse, run_id: str) -> Ask:
    """Ask about all five users in one batch."""

    def run(batch: Batch | None = None, endpoint: Endpoint | None = None, **settings: Any) -> dict[str, Any]:
        made = world.run(warehouse, run_id, **(WANTED | settings))
        part = batch or Batch(0, 0, 4, "users 0–4")
        return asking.ask_batch(made, world.refs(), user_summary.STEP, part, endpoint or llm.endpoint)

    return run


@pytest.fixture
def written(world: World, warehouse: Warehouse, run_id: str) -> Callable[[], list[tuple[str | None, str | None]]]:
    """Every user's text, or why there is none."""

    def read() -> list[tuple[str | None, str | None]]:
        made = world.run(warehouse, run_id, **WANTED)
        texts = UserTexts.of_run(made, world.refs(), user_summary.STEP)
        return list(zip(*texts.of(world.histories.users), strict=True))

    return read


def batch_row(warehouse: Warehouse) -> dict[str, Any]:
    with transaction(warehouse) as connection:
        return dict(connection.execute(text("select * from batches")).mappings().one())


def question(world: World, history: list[int], **settings: Any) -> Any:
    made = world.run(**(WANTED | settings))
    return user_summary.inquire(0, np.array(history, np.int32), {}, world.known, made.config)


def test_a_question_shows_the_newest_titles_first_and_nothing_else(world: World) -> None:
    inquiry = question(world, [5, 1, 4, 2, 3], history_length=3, noun="lamp")
    instructions, data = (message["content"] for message in inquiry.question.messages)
    assert json.loads(data) == {"history": ["brush", "comb", "soap"]}
    assert "one lamp" in instructions and not any(title in instructions for title in TITLES if title)
    assert question(world, [4, 4]).question is None and question(world, [4]).reason == user_summary.NO_HISTORY


def test_it_is_asked_only_where_the_settings_want_it_and_something_needs_it(world: World) -> None:
    def asked(**settings: Any) -> bool:
        return "user-summary" in world.run(**(WANTED | settings)).config.chain

    assert asked()
    assert not asked(user_vectors="mean") and not asked(user_vectors="titles")
    assert not asked(methods=["base", "llmser"])


def test_what_is_written_is_kept_a_row_a_user(ask: Ask, llm: Double, warehouse: Warehouse, written: Any) -> None:
    counts = ask()
    assert written() == [
        ("Likes comb, soap and the like.", None),
        ("Likes brush and the like.", None),
        (None, user_summary.NO_HISTORY),
        ("Likes brush and the like.", None),
        ("Likes brush, soap, comb and the like.", None),
    ]
    assert counts["calls"] == len(llm.asked) == 3, "users 4 and 9 have one question between them"
    assert (counts["texts"], counts["sources"]) == (4, {"strict": 4})
    assert counts["without_text"] == {user_summary.NO_HISTORY: 1}
    row = batch_row(warehouse)
    assert (row["state"], row["answered"], row["calls"], row["prompt_tokens"]) == ("done", 5, 3, 300)


def test_a_rerun_and_another_run_ask_nothing(ask: Ask, llm: Double, world: World, warehouse: Warehouse) -> None:
    from llmser_tasks.warehouse.tables import runs

    ask()
    llm.reset()
    assert ask()["calls"] == 0
    runs.create(warehouse, "r2", "tiny", {})
    again = world.run(warehouse, "r2", **WANTED)
    batch = Batch(0, 0, 4, "users 0–4")
    assert asking.ask_batch(again, world.refs(), user_summary.STEP, batch, llm.endpoint)["texts"] == 4
    assert llm.asked == []


def test_a_batch_that_fails_keeps_what_was_written_and_a_cleared_one_pays_for_the_rest_alone(
    ask: Ask, llm: Double, warehouse: Warehouse, written: Any
) -> None:
    def moody(block: Block, schema: dict[str, Any]) -> Any:
        return (500, {"error": {"message": "broken"}}) if len(block["history"]) == 3 else by_title(block, schema)

    llm.script = moody
    first, second = plan(5, 3)
    ask(first)
    with pytest.raises(Unanswered, match="1 of 2 unanswered"):
        ask(second)
    with pytest.raises(InputError, match="1 of 5 users of run r1 have not been through user-summary yet"):
        written()
    llm.reset()
    ask(second)
    assert [block["history"] for block in llm.asked] == [["brush", "soap", "comb"]]
    assert sum(said is not None for said, _ in written()) == 4
    with transaction(warehouse) as connection:
        assert connection.scalar(text("select count(*) from answers")) == 3, "none was asked for twice"


def test_tolerated_and_accepted_users_go_without(ask: Ask, llm: Double, warehouse: Warehouse, written: Any) -> None:
    llm.script = lambda *_: (500, {"error": {"message": "broken"}})
    ask(tolerated_failures=1)
    assert written()[0] == (None, "unanswered: server error")
    with pytest.raises(Unanswered):
        ask()
    acceptance.accept(warehouse, "r1")
    llm.asked.clear()
    ask()
    assert llm.asked == [] and written()[0] == (None, "unanswered: accepted")


def test_hostile_words_stay_words(ask: Ask, llm: Double, warehouse: Warehouse, written: Any) -> None:
    llm.script = lambda block, _: json.dumps({"text": f"{HOSTILE} {block['history']}"})
    ask()
    said = written()[0][0]
    assert said == "Likes roses[31m'; drop table user_texts; -- and ${jndi:x} ['comb', 'soap']"


@pytest.mark.parametrize("said", ['{"text": ""}', '{"text": "N/A"}', '{"mood": 7}', "Sorry, I cannot do that."])
def test_what_says_nothing_is_counted(ask: Ask, llm: Double, written: Any, said: str) -> None:
    llm.script = lambda block, schema: said if len(block["history"]) == 3 else by_title(block, schema)
    counts = ask()
    assert written()[4] == (None, NO_USABLE_ANSWER)
    assert counts["without_text"] == {user_summary.NO_HISTORY: 1, NO_USABLE_ANSWER: 1}


@pytest.mark.parametrize("said", ["", "<think>hm</think>"])
def test_an_answer_without_a_word_is_asked_for_again_and_then_let_go(
    ask: Ask, llm: Double, written: Any, said: str
) -> None:
    llm.script = lambda block, schema: said if len(block["history"]) == 3 else by_title(block, schema)
    counts = ask(tolerated_failures=0.2)
    assert len(llm.asked) == 2 + ATTEMPTS
    text, reason = written()[4]
    assert text is None and reason in {"no answer", "unanswered: server error"}, "as others were answered meanwhile"
    assert counts["without_text"] == {user_summary.NO_HISTORY: 1, reason: 1}


def test_a_model_that_declines_is_stopped(ask: Ask, llm: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "JUDGED_FROM", 3)
    llm.script = lambda *_: "I'm sorry, but I can't help with that."
    with pytest.raises(Nonsense, match=r"Only 0 of 3 answers .* say anything of anybody, which is .* “I'm sorry, but"):
        ask()
    counts = ask(least_usable=0)
    assert (counts["texts"], counts["without_text"][NO_USABLE_ANSWER]) == (0, 4)


def test_a_model_that_says_the_same_of_everybody_is_stopped(
    ask: Ask, llm: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "JUDGED_FROM", 3)
    llm.script = lambda *_: "I would rather talk about cats."
    with pytest.raises(Nonsense, match=r"Only 1 of 3 answers .* say anything of anybody that was not said of others, "):
        ask()
    with pytest.raises(Nonsense, match=r"`llmser answers prune --model "):
        ask()
    assert ask(least_usable=0)["texts"] == 4


def test_the_embedded_ranker_is_refused_before_it_is_asked(ask: Ask, llm: Double) -> None:
    with pytest.raises(InputError) as told:
        ask(endpoint=replace(llm.endpoint, model=RANKER_MODEL))
    assert str(told.value) == "The embedded ranker writes no text; name an endpoint or set user_vectors to titles."
    assert llm.asked == []


@pytest.fixture
def batch_server() -> Iterator[llm_double.Double]:
    made = llm_double.Double()
    dialects.known.clear()
    yield made
    made.stop()


def test_a_providers_batch_api_writes_them_too(ask: Ask, batch_server: llm_double.Double, written: Any) -> None:
    def writes(_: int, body: dict[str, Any]) -> llm_double.Act:
        block = json.loads(body["messages"][-1]["content"])
        schema = body["response_format"]["json_schema"]["schema"]
        return llm_double.says(by_title(block, schema))

    batch_server.script = writes
    endpoint = Endpoint("b", batch_server.url, "double", key="sk-test-0001")
    counts: list[dict[str, Any]] = []

    def over() -> bool:
        try:
            counts.append(ask(endpoint=endpoint, mode="batch"))
        except Waiting:
            return False
        return True

    until(over, lambda: "the batch never ended")
    assert counts[0]["texts"] == 4 and len(batch_server.batches) == 1
    asked = len(batch_server.bodies)
    assert asked == 3, "one of them the ordinary way, to learn how"
    assert ask(endpoint=endpoint, mode="batch")["from_ledger"] == 3 and len(batch_server.bodies) == asked
    assert written()[1][0] == "Likes brush and the like."


# Their vectors -------------------------------------------------------------------------------------------------------


def vectors(world: World, warehouse: Warehouse, **settings: Any) -> tuple[np.ndarray, dict[str, Any]]:
    run, refs = world.run(warehouse, "r1", **(WANTED | settings)), world.refs()
    for name in ("item-vectors", "user-vectors"):
        refs = refs | {name: STEPS.load(name).make(run, refs).reference()}
    made = Artefact(**refs["user-vectors"])
    found = STEPS.load("user-vectors").features(run.folder(refs, "user-vectors"))["user_vectors"]
    return found, run.workspace.summary(made)


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Texts, as the encoder is asked for them."""
    seen: list[str] = []
    embed = FakeEncoder.embed

    def noting(self: FakeEncoder, titles: Any, *_: object) -> np.ndarray:
        seen.extend(titles)
        return embed(self, titles)

    monkeypatch.setattr(FakeEncoder, "embed", noting)
    monkeypatch.setattr(Encoder, "open", FakeEncoder.open)
    return seen


def test_summaries_are_embedded_once_and_who_has_none_has_the_mean(
    ask: Ask, llm: Double, world: World, warehouse: Warehouse, embedded: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    llm.script = lambda block, schema: "{}" if len(block["history"]) == 2 else by_title(block, schema)
    ask()
    found, about = vectors(world, warehouse)
    means, _ = vectors(world, warehouse, user_vectors="mean")
    assert found.shape == means.shape and np.array_equal(found[1], found[3])
    assert np.array_equal(found[0], means[0]), "nothing of use was written about the first"
    assert not np.allclose(found[[1, 4]], means[[1, 4]])
    assert found[1] == pytest.approx(FakeEncoder().embed(["Likes brush and the like."])[0])
    assert not found[2].any(), "whose items have no title has no mean either"
    assert about["summaries"] == 3 and about["by_mean"] == {NO_USABLE_ANSWER: 1, user_summary.NO_HISTORY: 1}
    assert sum("2 of 5 users have no summary" in record.message for record in caplog.records) == 1
    assert embedded.count("Likes brush and the like.") == 2, "once here, once for the test"


def test_where_nobody_has_a_summary_all_have_the_mean(
    ask: Ask, llm: Double, world: World, warehouse: Warehouse, embedded: list[str]
) -> None:
    llm.script = lambda *_: (400, {"error": {"code": "content_filter", "message": "no"}})
    ask()
    found, about = vectors(world, warehouse)
    assert np.array_equal(found, vectors(world, warehouse, user_vectors="mean")[0])
    assert about["summaries"] == 0 and about["by_mean"]["content-filter"] == 4


def test_other_summaries_make_other_vectors_and_the_same_none(
    ask: Ask, llm: Double, world: World, warehouse: Warehouse, embedded: list[str]
) -> None:
    ask()
    before, _ = vectors(world, warehouse)
    seen = len(embedded)
    again, _ = vectors(world, warehouse)
    assert np.array_equal(before, again) and len(embedded) == seen
    llm.script = lambda block, _: json.dumps({"text": f"Hates {block['history'][-1]} and the like."})
    ask(endpoint=replace(llm.endpoint, model="other"))
    other, _ = vectors(world, warehouse)
    assert not np.allclose(before, other)


# What is kept of them, shown and forgotten ---------------------------------------------------------------------------


def test_they_are_shown_counted_and_forgotten_as_picks_are(ask: Ask, llm: Double, warehouse: Warehouse) -> None:
    from llmser_tasks.warehouse import queries, retention
    from llmser_tasks.warehouse.pages import users
    from llmser_tasks.warehouse.retention import Selection
    from llmser_tasks.warehouse.tables import results

    llm.script = lambda block, schema: "{}" if len(block["history"]) == 2 else by_title(block, schema)
    ask()
    shown = users.users(warehouse, "r1")
    assert [row["user_id"] for row in shown] == ["u002", "u004", "u006", "u009", "u011"]
    assert [(one["text"], one["model"]) for one in shown[1]["texts"]] == [("Likes brush and the like.", "double-1")]
    assert shown[0]["texts"][0]["reason"] == NO_USABLE_ANSWER and shown[0]["omega"] is None
    assert users.users(warehouse, "r1", search="u005")[0]["user_id"] == "u006"
    assert [row["user_id"] for row in users.users(warehouse, "r1", order="most", after=(0.0, "u006"))] == [
        "u009",
        "u011",
    ]
    with queries.read(warehouse, "user-texts", "r1") as found:
        assert [row[:3] for row in found.rows][1] == ("u004", "user-summary", "Likes brush and the like.")
    with queries.read(warehouse, "answers", "r1") as found:
        assert len(list(found.rows)) == 5
    with transaction(warehouse) as connection:
        results.count_texts(connection, "r1")
        assert results.asked(connection, "r1") == [{"step": "user-summary", "users": 5, "asked": 4}]
        assert results.answered_by(connection, "r1") == {"double-1": 4}
        quality = connection.execute(text("select * from counted_answer_quality")).mappings().one()
        paid = connection.execute(text("select * from counted_group_costs")).mappings().one()
    assert (quality["users"], quality["without_picks"], quality["strict"]) == (4, 1, 3)
    assert (paid["users"], paid["answers_paid"]) == (4, 3)
    assert retention.count(warehouse, Selection(unused=True))[0] == 0
    assert retention.prune(warehouse, Selection(unusable=True)) == 1
    llm.reset()
    ask()
    assert [block["history"] for block in llm.asked] == [["comb", "soap"]]
