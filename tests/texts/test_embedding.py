"""Texts embedded by an endpoint, in a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from embedding_double import DIMENSION, Double, embedding_server, embeddings, refuses, vector
from served_ranker import Bags, ranker
from tiny_dumps import ITEMS, SMALL, careers, write_dumps
from tiny_world import World, make_world

from llmser_tasks.core.errors import InputError
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.kinds import STEPS
from llmser_tasks.core.run import Made, Run, artefact
from llmser_tasks.core.workspace import Workspace
from llmser_tasks.llm.embedding import fanout
from llmser_tasks.llm.endpoint import Endpoint
from llmser_tasks.llm.errors import KeyRefused
from llmser_tasks.runs import pipeline
from llmser_tasks.runs.estimate import before_training
from llmser_tasks.warehouse.tables import acceptance, batches, runs
from llmser_tasks.warehouse.tables.batches import Account

__all__ = ["embedding_server", "embeddings"]

TITLES = ["soap", "comb", None, "soap", "brush"]


def world(workspace: Workspace, titles: list[str | None] = TITLES) -> World:
    return make_world(workspace, {0: [1, 2], 4: [3], 5: [5, 4]}, titles)


def run(world: World, warehouse: Warehouse, endpoint: Endpoint, budget: float | None = None, **settings: object) -> Run:
    """A noted run whose texts this endpoint embeds."""
    runs.create(warehouse, "r1", "tiny", {}, budget=budget)
    asked: list[str] = []

    def endpoint_of(name: str) -> Endpoint:
        asked.append(name)
        assert name == "mine"
        return endpoint

    return replace(world.run(warehouse, vectors="endpoint:mine", **settings), endpoint_of=endpoint_of)


def make(run: Run, refs: Made, *names: str) -> Made:
    for name in names:
        refs = refs | {name: STEPS.load(name).make(run, refs).reference()}
    return refs


def test_items_and_users_have_the_endpoints_vectors(
    workspace: Workspace, warehouse: Warehouse, embeddings: Double
) -> None:
    made = world(workspace)
    asking = run(made, warehouse, embeddings.endpoint, user_vectors="titles")
    refs = make(asking, made.refs(), "item-vectors", "user-vectors")
    found = STEPS.load("item-vectors").features(asking.folder(refs, "item-vectors"))["item_vectors"]
    assert found.shape == (6, DIMENSION) and found.dtype == np.float32
    soap = vector("soap")
    assert found[1] == pytest.approx(soap / np.linalg.norm(soap), abs=1e-6)
    assert np.array_equal(found[1], found[4]) and not found[[0, 3]].any()
    about = workspace.summary(artefact(refs, "item-vectors"))
    assert about["model"] == "double" and about["dimension"] == DIMENSION and len(about["encoder_hash"]) == 64
    assert about["items"] == 5 and about["titled"] == 4 and about["calls"] == 1
    users = STEPS.load("user-vectors").features(asking.folder(refs, "user-vectors"))["user_vectors"]
    assert users[[0, 2]].any(axis=1).all() and not users[1].any(), "whose only item has no title"
    assert sorted(embeddings.texts[:3]) == ["brush", "comb", "soap"]
    assert len(embeddings.texts) == 5 and all("latest first: " in text for text in embeddings.texts[3:])
    paid = batches.bill(warehouse, Account("r1", "item-vectors", 0))
    assert (paid.calls, paid.prompt_tokens, paid.failed) == (1, len("soapcombbrush"), 0)


def test_another_dataset_and_a_refresh_send_only_what_is_new(
    workspace: Workspace, warehouse: Warehouse, embeddings: Double
) -> None:
    first = world(workspace)
    asking = run(first, warehouse, embeddings.endpoint)
    make(asking, first.refs(), "item-vectors")
    grown = world(workspace, [*TITLES, "towel"])
    make(asking, grown.refs(), "item-vectors")
    assert embeddings.texts[3:] == ["towel"]
    elsewhere = replace(asking, workspace=Workspace(workspace.root.parent / "elsewhere"))
    there = world(elsewhere.workspace)
    refs = make(elsewhere, there.refs(), "item-vectors")
    assert len(embeddings.texts) == 4, "not even in another store"
    assert elsewhere.workspace.summary(artefact(refs, "item-vectors"))["calls"] == 0


def test_the_model_is_part_of_what_a_vector_depends_on(
    workspace: Workspace, warehouse: Warehouse, embeddings: Double
) -> None:
    made = world(workspace)
    asking = run(made, warehouse, embeddings.endpoint)
    small = make(asking, made.refs(), "item-vectors")
    again = make(asking, made.refs(), "item-vectors")
    assert again["item-vectors"]["unchanged"] and len(embeddings.asked) == 1
    large = replace(asking, endpoint_of=lambda _: replace(embeddings.endpoint, model="large"))
    assert make(large, made.refs(), "item-vectors")["item-vectors"]["path"] != small["item-vectors"]["path"]
    assert embeddings.asked[1]["model"] == "large"


def test_what_it_costs_is_said_before_the_first_call_and_a_budget_refuses_it(
    workspace: Workspace, warehouse: Warehouse, embeddings: Double, caplog: pytest.LogCaptureFixture
) -> None:
    made = world(workspace)
    priced = replace(embeddings.endpoint, price_per_million_prompt=1e6)
    asking = run(made, warehouse, priced, budget=2.0)
    expected = STEPS.load("item-vectors").estimate(asking, made.refs())
    assert (expected.step, expected.questions, expected.answered, expected.calls) == ("item-vectors", 3, 0, 1)
    assert expected.prompt_tokens == 3 and expected.cost == pytest.approx(3)
    with pytest.raises(InputError, match=r"will cost about 3, and its budget has 2 left; nothing was asked"):
        make(asking, made.refs(), "item-vectors")
    assert not embeddings.asked
    caplog.set_level("INFO")
    free = replace(asking, endpoint_of=lambda _: replace(priced, price_per_million_prompt=1.0))
    make(free, made.refs(), "item-vectors")
    assert "embeds 3 texts with double: 1 calls, about 3 tokens, about 0.0000; 0 are known." in caplog.text
    assert STEPS.load("item-vectors").estimate(free, made.refs()).calls == 0


def test_an_endpoint_that_fails_is_the_steps_failure_and_nobody_goes_on_without(
    workspace: Workspace, warehouse: Warehouse, embeddings: Double
) -> None:
    made = world(workspace)
    asking = run(made, warehouse, embeddings.endpoint)
    embeddings.script = lambda *_: refuses(401, "no such key")
    with pytest.raises(KeyRefused, match="refuses its key"):
        make(asking, made.refs(), "item-vectors")
    assert acceptance.failed(warehouse, "r1") == [], "it is no batch of users"


def test_a_connection_that_is_not_there_is_found_out_before_anything_is_trained(workspace: Workspace) -> None:
    for name in ("item-vectors", "user-vectors"):
        with pytest.raises(InputError, match="The connection mine is needed here"):
            STEPS.load(name).prepare(world(workspace).run(vectors="endpoint:mine"))


def test_by_default_texts_are_embedded_by_the_encoder_that_scores(workspace: Workspace) -> None:
    from llmser_tasks.texts import embedding

    made = world(workspace)

    def embeds(**settings: object) -> str:
        found = embedding.embedder(made.run(**settings), "item-vectors")
        assert isinstance(found, embedding.Bert)
        return found.name

    assert embeds() == "minilm"
    assert embeds(encoder="some/bert") == "some/bert"
    assert embeds(encoder="some/bert", vectors="minilm") == "minilm"
    assert isinstance(embedding.embedder(made.run(vectors="endpoint:mine"), "item-vectors"), embedding.Asked)
    with pytest.raises(InputError, match="behind endpoint: comes up to 100 of"):
        made.run(vectors="endpoint:no such thing")


def test_the_embedding_ranker_serves_its_vectors(workspace: Workspace, warehouse: Warehouse) -> None:
    """So all of this can be tried without a key."""
    key = "x" * 16
    with ranker(key=key) as client:
        assert client.post("/v1/embeddings", json={"input": ["a"]}).status_code == 401
        client.headers["authorization"] = f"Bearer {key}"
        plain = client.post("/v1/embeddings", json={"input": ["red soap", "comb"], "model": "whatever"}).json()
        assert [one["index"] for one in plain["data"]] == [0, 1] and plain["model"] == "embedding-ranker"
        assert plain["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
        assert np.array_equal([one["embedding"] for one in plain["data"]], Bags().embed(["red soap", "comb"]))
        endpoint = Endpoint("ranker", f"{str(client.base_url).rstrip('/')}/v1", "embedding-ranker", key=key)
        made = fanout.embed(endpoint, ["comb", "red soap"], warehouse, "item-vectors")
        assert np.array_equal(made.vectors, Bags().embed(["comb", "red soap"])), "in base64, to the bit"
        for wrong in ({}, {"input": []}, {"input": ["a", 1]}, {"input": ""}, {"input": "a", "encoding_format": "int8"}):
            refused = client.post("/v1/embeddings", json=wrong)
            assert refused.status_code == 400 and refused.json()["error"]["message"].endswith(".")
        assert client.post("/v1/embeddings", content=b"{").status_code == 400
        assert len(client.post("/v1/embeddings", json={"input": "one alone"}).json()["data"]) == 1


def test_a_run_finds_the_connection_in_the_environment_and_its_price_before_it_is_paid(
    tmp_path: Path, warehouse: Warehouse, embeddings: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMSER_HOME", str(tmp_path))
    monkeypatch.setenv("LLMSER_EMBEDDING_URL", embeddings.endpoint.url)
    monkeypatch.setenv("LLMSER_EMBEDDING_MODEL", "small")
    (tmp_path / "prices.json").write_text('{"small": {"prompt": 2.0, "completion": 0}}')
    values = SMALL | write_dumps(tmp_path / "dumps", careers()) | {"vectors": "endpoint:mine", "methods": ["base"]}
    where = {"workspace": Workspace(tmp_path / "artefacts"), "warehouse": warehouse}
    noted = pipeline.start("r1", values, **where)
    (row,) = before_training(
        noted.workspace, noted.config, endpoint=embeddings.endpoint, warehouse=warehouse, endpoint_of=noted.endpoint_of
    )
    assert (row.step, row.questions, row.calls) == ("item-vectors", ITEMS - 2, 1)
    assert row.cost == pytest.approx(row.prompt_tokens * 2 / 1e6) and not embeddings.asked
    refs = pipeline.ingest(noted)
    refs |= pipeline.sequences(noted, refs)
    refs |= pipeline.make("item-vectors", noted, refs)
    assert len(embeddings.texts) == ITEMS - 2 and embeddings.asked[0]["model"] == "small"
    assert runs.spending(warehouse, "r1")[0] == pytest.approx(sum(map(len, embeddings.texts)) * 2 / 1e6)
