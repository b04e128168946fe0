"""A program: takes an item table through all that a model meets, and says what it found as JSON.

`… through_everything.py TABLE BACKBONE FOLDER`, with a package that has the toys on the path (`toys.house`).
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from llmser_tasks.core.config import Recommender
from llmser_tasks.core.errors import LlmserError
from llmser_tasks.core.kinds import ITEM_TABLES
from llmser_tasks.recommenders import Watch, WeightedTerm, load, ranks, sampled_ranks, top_k, train
from llmser_tasks.recommenders.load import make_model
from llmser_tasks.recommenders.loop.optimiser import Adam
from llmser_tasks.recommenders.objective import Objective
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.serving.export import export_model

ITEMS = 30
CPU = torch.device("cpu")
TABLE, BACKBONE, FOLDER = sys.argv[1], sys.argv[2], Path(sys.argv[3])
RANDOM = np.random.default_rng(5)
STARTS, LENGTHS = RANDOM.integers(0, ITEMS, 150), RANDOM.integers(2, 10, 150)
RING = Histories.of(
    np.arange(150) * 3,
    [(start + np.arange(length)) % ITEMS + 1 for start, length in zip(STARTS, LENGTHS, strict=True)],
)
NEXT = (RING.last() % ITEMS + 1).astype(np.int32)
WATCH = Watch(RING, NEXT, RING)
TITLES = RANDOM.normal(size=(ITEMS + 1, 5)).astype(np.float32)
TITLES[0] = 0
NAMES = ITEM_TABLES[TABLE].features
CONFIG = Recommender(
    backbone=BACKBONE,
    dimension=16,
    layers=1,
    heads=2,
    max_length=9,
    dropout=0.1,
    batch_size=16,
    negatives=20,
    learning_rate=1e-2,
    epochs=15,
    patience=15,
)
SHORT = CONFIG.model_copy(update={"epochs": 4, "patience": 4})


class Interrupted(Exception):
    pass


def given(titles: NDArray[np.float32] = TITLES) -> dict[str, NDArray[np.float32]]:
    """Whatever the item table is made from."""
    return dict.fromkeys(NAMES, titles)


def folder(name: str) -> Path:
    (FOLDER / name).mkdir()
    return FOLDER / name


def fit(name: str, config: Recommender = CONFIG, *, again: bool = False, **more: Any) -> Path:
    target = FOLDER / name if again else folder(name)
    terms = more.pop("terms", [WeightedTerm(RING)])
    features = more.pop("features", given())
    items = more.pop("items", ITEMS)
    watch = more.pop("watch", WATCH)
    train(config, terms, items, 1, target, watch=watch, item_table=TABLE, features=features, device="cpu", **more)
    return target


def log_of(of: Path) -> list[list[float]]:
    lines = (of / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [[entry["loss"], entry["ndcg@10"]] for entry in map(json.loads, lines)]


def weights(of: Path) -> bytes:
    return (of / "model.safetensors").read_bytes()


def refused(call: Any) -> str:
    """What an error that people are meant to read says."""
    try:
        call()
    except LlmserError as error:
        return str(error)
    return ""


def a_step() -> dict[str, Any]:
    """Which rows a batch of two users moves."""
    model = make_model(CONFIG, ITEMS, TABLE, given())
    before = {name: table.detach().clone() for name, table in model.item_table.per_item().items()}
    objective = Objective.of(CONFIG.model_copy(update={"negatives": 3}), [WeightedTerm(RING)], ITEMS, CPU)
    torch.autograd.backward(objective(model.train(), torch.arange(2), 1))
    trained = {name: table for name, table in model.item_table.per_item().items() if table.requires_grad}
    gathered = {name: set(table.grad.coalesce().indices()[0].tolist()) for name, table in trained.items()}  # type: ignore[union-attr]
    Adam(model.parameters(), 1e-2).step()
    moved = {
        name: set(torch.nonzero((table != before[name]).any(1))[:, 0].tolist())
        for name, table in model.item_table.per_item().items()
    }
    few = all(0 < len(rows) < ITEMS - 5 for rows in gathered.values())
    return {"few": few, "moved": all(moved[name] <= gathered.get(name, set()) for name in moved), "tables": len(moved)}


def scores(of: Path) -> dict[str, Any]:
    model = load(of, "cpu")
    rank = ranks(model, WATCH.contexts, WATCH.targets, WATCH.exclude)
    drawn = np.random.default_rng(1).integers(1, ITEMS + 1, (len(NEXT), 12)).astype(np.int32)
    items, best = top_k(model, RING, 3, Histories.of([], []))
    with torch.no_grad():
        states = model.encode(torch.tensor([RING[0].tolist()]), torch.tensor([len(RING[0])]))
        by_hand, order = (states @ model.table[1:].T)[0].topk(3)
    return {
        "first": float((rank == 1).mean()),
        "sampled": float((sampled_ranks(model, RING, NEXT, drawn) == 1).mean()),
        "top": bool((order + 1).tolist() == items[0].tolist() and np.allclose(by_hand, best[0], atol=1e-5)),
        "width": states.shape[1],
        "features": all(bool((values.numpy() == TITLES).all()) for values in model.item_table.features.values()),
    }


def resumed() -> bool:
    def interrupt(done: int, *_: object, **__: object) -> None:
        if done == 2:
            raise Interrupted

    with suppress(Interrupted):
        fit("killed", SHORT, progress=interrupt)
    done: list[int] = []
    fit("killed", SHORT, again=True, progress=lambda epoch, *_, **__: done.append(epoch))
    return done == [3, 4] and weights(FOLDER / "killed") == weights(fit("whole", SHORT))


def warm(first: Path) -> dict[str, Any]:
    """The first five items are gone, one is new and comes first; their titles are told anew."""
    old_rows: NDArray[np.int64] = np.array([0, 0, *range(6, ITEMS + 1)])
    items = len(old_rows) - 1
    renamed = RANDOM.normal(size=(items + 1, 5)).astype(np.float32)
    renamed[0] = 0
    nobody = Histories.of([], [])
    moved = Histories.of(range(20), [[1, 2, 3, 4 + i % 5] for i in range(20)])
    still = SHORT.model_copy(update={"epochs": 1, "learning_rate": 1e-12})
    on = fit(
        "on",
        still,
        terms=[WeightedTerm(moved)],
        items=items,
        features=given(renamed),
        watch=Watch(nobody, np.zeros(0, np.int32), nobody),
        start_from=first,
        old_rows=old_rows,
    )
    now, then = load(on, "cpu"), load(first, "cpu")
    finite = all(bool(torch.isfinite(values).all()) for values in now.state_dict().values())
    carried = all(
        torch.allclose(table[2 : items + 1], before[6 : ITEMS + 1], atol=1e-6)
        and torch.allclose(table[items + 1 :], before[ITEMS + 1 :], atol=1e-6)
        for table, before in zip(now.item_table.per_item().values(), then.item_table.per_item().values(), strict=True)
    )
    whole = {name for name in now.state_dict() if name.removeprefix("item_table.") not in now.item_table.per_item()}
    same = all(torch.allclose(now.state_dict()[name], then.state_dict()[name], atol=1e-6) for name in whole)
    named = all(bool((values.numpy() == renamed).all()) for values in now.item_table.features.values())
    longer = given(np.pad(TITLES, ((0, 0), (0, 2))))
    shape = refused(lambda: fit("longer", SHORT, features=longer, start_from=first))
    return {"finite": finite, "carried": carried, "same": same, "named": named, "shape": shape}


def exported(of: Path) -> dict[str, Any]:
    """Files that `export` writes elsewhere rank as before."""
    catalogue = folder("catalogue")
    numbers = pa.array(range(1, ITEMS + 1), pa.int32())
    names = [f"i{n}" for n in range(1, ITEMS + 1)]
    pq.write_table(pa.table({"item": numbers, "item_id": names, "title": names}), catalogue / "items.parquet")
    pq.write_table(pa.table({"user": pa.array([0], pa.int32()), "user_id": ["u"]}), catalogue / "users.parquet")
    run: Any = SimpleNamespace(
        folder=lambda name: catalogue if name == "catalogue" else of,
        row=SimpleNamespace(dataset="toys", synthetic=True, run_id="toys", config={"seeds": [1], "methods": ["base"]}),
        workspace=SimpleNamespace(manifest=lambda artefact: {"version": "0"}),
        artefact=lambda name: name,
    )
    export_model(run, "base", FOLDER / "exported")
    one, other = (load(each, "cpu") for each in (of, FOLDER / "exported"))
    asked = (WATCH.contexts, WATCH.targets, WATCH.exclude)
    same = bool((ranks(one, *asked) == ranks(other, *asked)).all())
    return {"same": same, "features": list(other.item_table.features), "needs": list(NAMES)}


def on_two(name: str, config: Recommender, **given: Any) -> list[list[list[float]]]:
    """Logs of one process and of two."""
    alone = fit(f"{name}-alone", config, **given)
    os.environ["LLMSER_TRAINING_PROCESSES"] = "2"
    both = fit(f"{name}-both", config, **given)
    del os.environ["LLMSER_TRAINING_PROCESSES"]
    return [log_of(alone), log_of(both)]


def preferred(of: Path, better: NDArray[np.int64], worse: NDArray[np.int64]) -> float:
    """Share of users for whom the better item of the two scores higher."""
    items, best = top_k(load(of, "cpu"), RING, ITEMS, Histories.of([], []))
    place = np.argsort(items, axis=1)
    by_item = np.take_along_axis(best, place, 1)
    users = np.arange(len(RING))
    return float((by_item[users, better - 1] > by_item[users, worse - 1]).mean())


def preference() -> dict[str, Any]:
    """A second term, of pairs of items that histories say nothing of."""
    pairs = np.random.default_rng(2).permuted(np.tile(np.arange(1, ITEMS + 1), (len(RING), 1)), axis=1)[:, :2]
    better, worse = pairs.T
    features = given() | {"better": better, "worse": worse}
    weight = np.where(np.arange(len(RING)) % 4, 3, 0).astype(np.float32)
    terms = [WeightedTerm(RING), WeightedTerm(RING, weight, name="preference")]
    still = SHORT.model_copy(update={"dropout": 0.0, "epochs": 8, "patience": 8})
    logs = on_two("preference", still, terms=terms, features=features)
    shown = preferred(FOLDER / "preference-alone", better, worse)
    missing = refused(lambda: fit("missing", SHORT, terms=terms))
    return {"logs": logs, "with": shown, "without": preferred(FOLDER / "first", better, worse), "missing": missing}


def main() -> None:
    first = fit("first")
    found: dict[str, Any] = {"step": a_step(), "scores": scores(first), "resumed": resumed(), "warm": warm(first)}
    found["exported"] = exported(first)
    found["all"] = scores(fit("all", CONFIG.model_copy(update={"loss": "cross-entropy", "negatives": None})))["first"]
    found["unused"] = refused(lambda: fit("unused", features=given() | {"colours": TITLES}))
    found["rows"] = refused(lambda: fit("rows", features=given(TITLES[1:])))
    found["untitled"] = refused(lambda: fit("untitled", features={}))
    found["other"] = refused(lambda: train(CONFIG, [WeightedTerm(RING)], ITEMS, 1, folder("other"), watch=WATCH,
                                           device="cpu", start_from=first))  # fmt: skip
    found["preference"] = preference()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
