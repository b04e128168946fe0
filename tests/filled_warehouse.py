"""A warehouse as runs leave it: two finished, two with batches that failed. Titles are hostile."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, text

from llmser_tasks.core.config import from_flat, to_flat
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.rows import replace_rows
from llmser_tasks.warehouse.tables import acceptance, batches, failed_runs, publications, runs, steps
from llmser_tasks.warehouse.tables.publications import Chosen

HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>\u202e =1+1"
DATASET = "hostile <b>shop</b>"
FINISHED, BROKEN = "finished:1+<i>x</i>", "broken:2"
STUCK = "stuck:3+"  # failed in batches, too, and goes on without two users of another one
SEVERAL, BEFORE_IT = "several:4", "several:3"  # of three trained methods, one of which is declared no more
OTHER, GONE = "other", "gone-method"
STUDY = "hostile <i>study</i>"
USERS = 25
GROUPS = ("all", "tail users", "head users", "tail items", "head items", "n=1", "n=2", "n=4–5")


def fill(warehouse: Warehouse) -> None:
    config = to_flat(from_flat({"dataset": "shop", "seeds": [1, 2]}))
    for run_id in ("earlier", FINISHED, STUCK, BROKEN):
        runs.create(warehouse, run_id, DATASET, config, synthetic=True)
        runs.note_tail_threshold(warehouse, run_id, 3)
    for run_id in ("earlier", FINISHED):
        _asked(warehouse, run_id, failed=())
        with transaction(warehouse) as connection:
            _figures(connection, run_id, {"base": 0.1, "llmser": 0.2})
            _rungs(connection, run_id)
            _item_maps(connection, run_id)
            _users(connection, run_id)
            runs.finish(connection, run_id)
            _publish(connection, run_id, {"base": 0.09, "llmser": 0.1})
    with transaction(warehouse) as connection:
        _earlier(connection)
        kept_back = Chosen("llmser", 0.09, "validation")
        publications.conclude(connection, STUCK, kept_back, gate=0.05, ablation=False)  # before its rerun
    _asked(warehouse, STUCK, failed=(1, 3))
    acceptance.accept(warehouse, STUCK, [("snf", 0)])
    batches.record(
        warehouse,
        batches.Account(STUCK, "snf", 0),
        "users 0–9",
        10,
        batches.Standing("done", answered=8, failed=2, accepted=2),
    )
    failed_runs.fail(warehouse, STUCK, "2 of 20 unanswered.")
    _asked(warehouse, BROKEN, failed=(1, 3))
    failed_runs.fail(warehouse, BROKEN, f"2 of 20 unanswered: {HOSTILE}")
    _study(warehouse)


def _study(warehouse: Warehouse) -> None:
    """Three cells: one that succeeded, one that failed, one that has not begun and is no longer in the file."""
    cells = [(FINISHED, "main", {}, True), (BROKEN, "main", {}, True), ("to come", HOSTILE, {"noun": HOSTILE}, False)]
    columns = ("study", "run_id", "place", "part", "dataset", "backbone", "method", "seed", "changed", "settings",
               "wanted")  # fmt: skip
    rows = [
        (STUDY, run_id, place, part, DATASET, "sasrec", "llmser", 2, changed, {}, wanted)
        for place, (run_id, part, changed, wanted) in enumerate(cells, start=1)
    ]
    with transaction(warehouse) as connection:
        connection.execute(
            text("insert into studies (study, title, asked) values (:study, :title, '{}')"),
            {"study": STUDY, "title": HOSTILE},
        )
        replace_rows(connection, "study_cells", columns, rows, study=STUDY)


def fill_several(warehouse: Warehouse) -> None:
    """Two runs of another dataset: of the second one's three methods readers are given one that was declared once."""
    for run_id, methods, validation in (
        (BEFORE_IT, {"base": 0.1, "llmser": 0.08}, {"base": 0.12, "llmser": 0.1}),
        (SEVERAL, {"base": 0.1, "llmser": 0.15, GONE: 0.3}, {"base": 0.12, "llmser": 0.11, GONE: 0.25}),
    ):
        config = to_flat(from_flat({"dataset": OTHER, "seeds": [1, 2]})) | {"methods": list(methods)}
        runs.create(warehouse, run_id, OTHER, config)
        with transaction(warehouse) as connection:
            _figures(connection, run_id, methods)
            runs.finish(connection, run_id)
            _publish(connection, run_id, validation)


def _publish(connection: Connection, run_id: str, validation: Mapping[str, float]) -> None:
    rows = [(run_id, *row) for row in validation.items()]
    replace_rows(connection, "validations", ("run_id", "method", "ndcg"), rows, run_id=run_id)
    best = max(validation, key=lambda method: validation[method])
    publications.conclude(connection, run_id, Chosen(best, validation[best], "validation"), gate=None, ablation=False)


def _asked(warehouse: Warehouse, run_id: str, failed: tuple[int, ...]) -> None:
    with steps.recorded(warehouse, run_id, "ingest") as step:
        step(100, 100, "lines")
    with steps.recorded(warehouse, run_id, "sequences") as step:
        step.summary({"training": {"users": 50}, "catalogue": {"items": 30}})
    for batch in range(5):
        state = "failed" if batch in failed else "done"
        label = f"users {10 * batch}–{10 * batch + 9}"
        with steps.recorded(warehouse, run_id, "snf", label) as step:
            step(10, 10, "users", HOSTILE)
        gone = 4 if batch in failed else 0
        standing = batches.Standing(state, answered=10 - gone, failed=gone, message=HOSTILE if gone else None)
        batches.record(warehouse, batches.Account(run_id, "snf", batch), label, 10, standing)
    with transaction(warehouse) as connection:
        paid = "update batches set calls = 10, prompt_tokens = 500, completion_tokens = 50, cost = 0.25"
        connection.execute(text(f"{paid} where run_id = :run"), {"run": run_id})


def _figures(connection: Connection, run_id: str, methods: Mapping[str, float]) -> None:
    """Metrics of these trained methods, a little more each seed, and of the counters; comparisons with the base."""
    rows = [
        (run_id, method, seed, protocol, group, metric, value + 0.01 * seed, 40)
        for method, value in {**methods, "cooccurrence": 0.1, "popularity": 0.1}.items()
        for seed in (1, 2)
        for protocol in ("full", "uniform-100")
        for group in GROUPS
        for metric in ("H@10", "N@10", "H@20", "N@20", "MRR")
    ]
    columns = ("run_id", "method", "seed", "protocol", "user_group", "metric", "value", "users")
    replace_rows(connection, "metrics", columns, rows, run_id=run_id)
    compared = [
        (run_id, method, "base", "full", group, metric, 0.115, value + 0.015, value - 0.1, value - 0.15, value - 0.05,
         0.0001, 0.0004, 0.9955, 2, "***")
        for method, value in methods.items()
        if method != "base"
        for group in GROUPS
        for metric in ("H@10", "N@10")
    ]  # fmt: skip
    columns = ("run_id", "method", "reference", "protocol", "user_group", "metric", "reference_mean", "mean",
               "difference", "low", "high", "p", "p_holm", "level", "seeds", "stars")  # fmt: skip
    replace_rows(connection, "comparisons", columns, compared, run_id=run_id)
    replace_rows(connection, "reports", ("run_id", "html"), [(run_id, "<h1>Report</h1>")], run_id=run_id)


def _rungs(connection: Connection, run_id: str) -> None:
    """From the base by way of a table to LLMSeR; runs of `fill_several` are from before there were any."""
    rows = [
        (run_id, place, group, method, previous, added, mean - difference, mean, difference, difference - 0.05,
         difference + 0.05, 0.0001, 0.0004, 0.975, 2, stars)
        for place, previous, method, added, mean, difference, stars in (
            (1, "base", "base+text-start", "text-start", 0.125, 0.01, ""),
            (2, "base+text-start", "llmser+text-start", "llmser", 0.225, 0.1, "***"),
        )
        for group in ("all", "tail users")
    ]  # fmt: skip
    columns = ("run_id", "place", "user_group", "method", "previous", "added", "previous_mean", "mean", "difference",
               "low", "high", "p", "p_holm", "level", "seeds", "stars")  # fmt: skip
    replace_rows(connection, "rungs", columns, rows, run_id=run_id)


def _item_maps(connection: Connection, run_id: str) -> None:
    """Of two models; runs of `fill_several` are from before there were any."""
    rows = [
        (run_id, method, 1, [0.5, 0.25], silhouette, 0.3, 0.05, [HOSTILE, "item 1", "item 2"], [True, False, False],
         [9, 1, 0], [1.0, -0.5, 0.25], [0.125, 0.0, -0.5])
        for method, silhouette in (("llmser", -0.02), ("base", 0.3))
    ]  # fmt: skip
    columns = ("run_id", "method", "seed", "shares", "silhouette", "overlap", "chance", "item_ids", "heads", "counts",
               "xs", "ys")  # fmt: skip
    replace_rows(connection, "item_maps", columns, rows, run_id=run_id)


def _earlier(connection: Connection) -> None:
    row = (FINISHED, "earlier", "llmser", "full", "all", "N@10", 0.2, 0.215, -0.015, -0.02, -0.01, 0.001, 0.005, 0.95,
           2, "▼**")  # fmt: skip
    columns = ("run_id", "earlier_run", "method", "protocol", "user_group", "metric", "earlier", "mean", "difference",
               "low", "high", "p", "p_holm", "level", "seeds", "stars")  # fmt: skip
    replace_rows(connection, "earlier_comparisons", columns, [row], run_id=FINISHED)


def _users(connection: Connection, run_id: str) -> None:
    users = [f"user <u>{number:02d}</u>" for number in range(USERS)]
    scores = [
        (run_id, user, number % 5 + 1, "item 2", HOSTILE, "item 2" if number % 2 else "item 1", HOSTILE, "strict",
         number / USERS, number / USERS / 2, None, "hash")
        for number, user in enumerate(users)
    ]  # fmt: skip
    columns = ("run_id", "user_id", "n", "masked_item", "masked_title", "named_item", "named_title", "source", "omega",
               "alpha", "reason", "encoder_hash")  # fmt: skip
    replace_rows(connection, "reliability", columns, scores, run_id=run_id)
    histories = [(run_id, user, ["item 1", "item 2"]) for user in users]
    replace_rows(connection, "histories", ("run_id", "user_id", "item_ids"), histories, run_id=run_id)
    titles = [(run_id, f"item {number}", HOSTILE) for number in range(3)]
    replace_rows(connection, "item_titles", ("run_id", "item_id", "title"), titles, run_id=run_id)
    pseudo = [(run_id, user, ["item 0"], [HOSTILE], ["strict"]) for user in users]
    replace_rows(
        connection, "pseudo_items", ("run_id", "user_id", "item_ids", "titles", "sources"), pseudo, run_id=run_id
    )
    connection.execute(
        text(
            "insert into answers (question_key, step, prompt_version, model, answered_by, content, attempts, run_id)"
            " values (:key, 'snf', 'snf-1', 'm', :name, :name, 1, :run)"
        ),
        {"key": f"key of {run_id}", "name": HOSTILE, "run": run_id},
    )
    picks = [(run_id, "snf", user, f"key of {run_id}", 1, ["item 0"], ["strict"], None, 1) for user in users]
    columns = ("run_id", "step", "user_id", "question_key", "shuffle_seed", "item_ids", "sources", "reason", "invented")
    replace_rows(connection, "picks", columns, picks, run_id=run_id)
    texts = [(run_id, "user-summary", user, HOSTILE, "prose") for user in users]
    replace_rows(connection, "user_texts", ("run_id", "step", "user_id", "text", "source"), texts, run_id=run_id)
    connection.execute(text("select count_answers(:run)"), {"run": run_id})
