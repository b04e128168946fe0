"""ω, α, their reasons, and the rows people read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from sqlalchemy import text
from tiny_world import World, make_lists, make_world, read

from llmser_tasks.asking.picks import Picks
from llmser_tasks.core.errors import InputError
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.progress import Progress, silent
from llmser_tasks.core.workspace import Artefact, Workspace
from llmser_tasks.methods.llmser import record, reliability
from llmser_tasks.methods.llmser.reasons import MASKED_UNTITLED, NO_CANDIDATE, NO_PSEUDO_ITEMS
from llmser_tasks.sequences.catalogue import Catalogue
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.texts.encoder import Encoder
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.pages import users

TITLES = ["red", "green", "red green", "against red", None]
#             tail    tail  tail     head         head    tail       tail: n_u ≤ 2
HISTORIES = {0: [1], 1: [2], 2: [5], 3: [2, 4, 1], 4: [1, 1, 3], 5: [3, 2], 6: [4, 1]}
PSEUDO = {0: [3], 1: [3], 2: [3], 3: [3], 4: [], 5: [4], 6: [3]}


class Colours:
    """An encoder whose cosines are known: red and green at right angles."""

    hash = "c0105"
    dimension = 2

    def embed(self, titles: Sequence[str], progress: Progress = silent) -> NDArray[np.float32]:
        directions = {"red": (1, 0), "green": (0, 1), "red green": (0.6, 0.8), "against red": (-1, 0)}
        return np.array([directions[title] for title in titles], np.float32).reshape(-1, 2)


def named(**items: int | None) -> Picks:
    users = {int(name[1:]): item for name, item in items.items()}
    chosen = Histories.of(list(users), [[item] if item else [] for item in users.values()])
    return Picks(
        "reason",
        "r1",
        chosen,
        np.array(["strict"] * len(chosen.items), object),
        np.array([None if item else "content-filter" for item in users.values()], object),
    )


ALL = {"u0": 1, "u1": 1, "u2": 1, "u3": 3, "u4": 1, "u5": None, "u6": 4}


@pytest.fixture
def world(workspace: Workspace) -> World:
    return make_world(workspace, HISTORIES, TITLES)


@pytest.fixture
def pseudo(world: World) -> Artefact:
    return make_lists(world.workspace, "pseudo", "pseudo.parquet", PSEUDO)


@pytest.fixture
def make(world: World, pseudo: Artefact, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Artefact]:
    monkeypatch.setattr(Encoder, "open", lambda name: Colours())

    def run(named_by: Picks | Artefact | None, beta: float = 0.5, threshold: int = 2) -> Artefact:
        monkeypatch.setattr(Picks, "of_run", lambda run, refs, step: named_by)
        without = ["arv"] if named_by is None else [] if isinstance(named_by, Picks) else ["reason"]
        given = world if threshold == 2 else make_world(world.workspace, HISTORIES, TITLES, threshold)
        pools = named_by if isinstance(named_by, Artefact) else None
        return reliability.score(given.run(beta=beta, without=without), given.refs(pseudo=pseudo, rcs=pools))

    return run


def rows(world: World, artefact: Artefact) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = read(world.workspace, artefact, "reliability.parquet").to_pylist()
    return made


def test_omega_alpha_and_reasons(make: Callable[..., Artefact], world: World) -> None:
    made = rows(world, make(named(**ALL)))
    keys = ("user", "n", "masked", "named", "source", "omega", "alpha", "reason")
    expected = [
        (0, 1, 1, 1, "strict", 1.0, 1.0, None),  # the masked item itself
        (1, 1, 2, 1, "strict", 0.0, 0.0, None),  # at right angles
        (2, 1, 5, None, None, 0.0, 0.0, MASKED_UNTITLED),
        (3, 3, 1, 3, "strict", 0.6, 0.3, None),  # a head user: β = 0.5
        (4, 3, 3, None, None, 0.0, 0.0, NO_PSEUDO_ITEMS),
        (5, 2, 2, None, None, 0.0, 0.0, "content-filter"),
        (6, 2, 1, 4, "strict", 0.0, 0.0, None),  # a negative cosine counts as 0
    ]
    for row, wanted in zip(made, expected, strict=True):
        assert row == pytest.approx(dict(zip(keys, wanted, strict=True)), abs=1e-6)


def test_beta_and_t_decay_head_users_alone(make: Callable[..., Artefact], world: World) -> None:
    def alphas(artefact: Artefact) -> list[float]:
        return [round(row["alpha"], 6) for row in rows(world, artefact)]

    assert alphas(make(named(**ALL), beta=0.25)) == [1, 0, 0, 0.15, 0, 0, 0]
    assert alphas(make(named(**ALL), beta=1.0)) == [1, 0, 0, 0.6, 0, 0, 0]
    assert alphas(make(named(**ALL), threshold=3)) == [1, 0, 0, 0.6, 0, 0, 0]
    assert alphas(make(named(**ALL), beta=0.0)) == [1, 0, 0, 0, 0, 0, 0]


def test_without_arv_pseudo_items_are_trusted_fully_whatever_beta(make: Callable[..., Artefact], world: World) -> None:
    made = rows(world, make(None, beta=0.1))
    assert [row["alpha"] for row in made] == [1, 1, 1, 1, 0, 1, 1]
    assert [row["source"] for row in made] == ["none"] * 4 + [None] + ["none"] * 2
    assert made[4]["reason"] == NO_PSEUDO_ITEMS
    assert make(None, beta=0.9).unchanged


def test_without_reason_the_first_titled_item_of_the_pool_is_named(make: Callable[..., Artefact], world: World) -> None:
    pools = {0: [5, 3, 1], 1: [2], 2: [1], 3: [1], 4: [1], 5: [5], 6: []}
    made = rows(world, make(make_lists(world.workspace, "rcs", "pools.parquet", pools)))
    assert [row["named"] for row in made] == [3, 2, None, 1, None, None, None]
    assert [row["source"] for row in made] == ["rcs", "rcs", None, "rcs", None, None, None]
    assert [row["reason"] for row in made] == [
        None, None, MASKED_UNTITLED, None, NO_PSEUDO_ITEMS, NO_CANDIDATE, NO_CANDIDATE,
    ]  # fmt: skip


def test_users_that_were_not_asked_are_an_error(make: Callable[..., Artefact]) -> None:
    with pytest.raises(InputError, match="6 of 7 users of run r1 have not been through reason yet"):
        make(named(u0=1))


def test_rows_in_postgres_speak_the_dumps_ids_and_a_rerun_doubles_nothing(
    make: Callable[..., Artefact], world: World, pseudo: Artefact, warehouse: Warehouse, run_id: str
) -> None:
    made = make(named(**ALL))
    for _ in range(2):
        users = record.record(world.run(warehouse, run_id), world.refs(pseudo=pseudo), made)
    assert users == 7
    with transaction(warehouse) as connection:
        scores = connection.execute(text("select * from reliability order by user_id")).mappings().all()
        items = connection.execute(text("select * from pseudo_items order by user_id")).mappings().all()
    assert len(scores) == len(items) == 7
    assert scores[3] == pytest.approx(
        {
            "run_id": run_id, "user_id": "u003", "n": 3, "masked_item": "i001", "masked_title": "red",
            "named_item": "i003", "named_title": "red green", "source": "strict", "omega": 0.6, "alpha": 0.3,
            "reason": None, "encoder_hash": "c0105",
        },
        abs=1e-6,
    )  # fmt: skip
    assert (scores[2]["masked_title"], scores[2]["named_item"]) == (None, None)
    assert dict(items[5]) == {
        "run_id": run_id, "user_id": "u005", "item_ids": ["i004"], "titles": ["against red"], "sources": ["strict"],
    }  # fmt: skip


def test_the_page_finds_texts_where_they_say_more_than_titles(
    make: Callable[..., Artefact], world: World, pseudo: Artefact, warehouse: Warehouse, run_id: str
) -> None:
    known = world.known
    texts = [title and (f"{title}. Kind" if place else title) for place, title in enumerate(known.titles.to_pylist())]
    told = replace(known, told=pa.array(texts, pa.string()))
    made = make(named(**ALL))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Catalogue, "of_run", lambda *_: told)
        record.record(world.run(warehouse, run_id), world.refs(pseudo=pseudo), made)
    with transaction(warehouse) as connection:
        rows = connection.execute(text("select item_id, title, text from item_titles order by item_id")).all()
    assert rows[0][1:] == ("red", None)
    assert {row.text for row in rows[1:]} == {f"{row.title}. Kind" for row in rows[1:]}
    shown = users.users(warehouse, run_id)
    items = [item for user in shown for item in (*user["history"], *user["pseudo"]) if item["title"]]
    assert {item["title"]: item.get("text") for item in items} == {
        row.title: row.text for row in rows if row.title in {item["title"] for item in items}
    }


def test_the_page_finds_histories_titles_and_the_histogram_of_omega(
    make: Callable[..., Artefact], world: World, pseudo: Artefact, warehouse: Warehouse, run_id: str
) -> None:
    record.record(world.run(warehouse, run_id), world.refs(pseudo=pseudo), make(named(**ALL)))
    with transaction(warehouse) as connection:
        histories = connection.execute(text("select user_id, item_ids from histories order by user_id")).all()
        titles = {row.item_id: row.title for row in connection.execute(text("select item_id, title from item_titles"))}
        histogram = connection.execute(
            text("select bucket, outcome, users, omega_sum from omega_histogram order by bucket, outcome")
        ).all()
    assert [user for user, _ in histories] == [f"u{row:03d}" for row in range(7)]
    assert histories[3].item_ids[-1] == "i001" and len(histories[3].item_ids) == 3
    assert titles["i001"] == "red" and None not in titles.values()
    assert sum(row.users for row in histogram) == 7
    assert {(row.bucket, row.outcome): row.users for row in histogram}[12, "other"] == 1  # ω .6
    assert sum(row.omega_sum for row in histogram) == pytest.approx(1.6)
