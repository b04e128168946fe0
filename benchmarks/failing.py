"""The ranker's fault by which an exact number of SNF batches fails: its seed is searched for that."""

from __future__ import annotations

import hashlib
import itertools
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import text

from llmser_tasks.asking.ask import Batch
from llmser_tasks.asking.questions import inquiries as inquiries_of
from llmser_tasks.core import environment
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.run import Made, Run
from llmser_tasks.core.workspace import Artefact
from llmser_tasks.methods.llmser import snf
from llmser_tasks.ranker.faults import Faults, parse_spec
from llmser_tasks.runs import pipeline
from llmser_tasks.sequences.catalogue import Catalogue
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.sequences.pools import POOLS
from llmser_tasks.warehouse.engine import transaction


def prepared(values: Mapping[str, Any], warehouse: Warehouse) -> tuple[Run, Made]:
    """What the questions of a run with these settings hang on: its histories and pools."""
    run_id = f"prepare-{time.time_ns()}"
    run = pipeline.start(run_id, values, workspace=environment.workspace(), warehouse=warehouse)
    refs = pipeline.ingest(run)
    refs |= pipeline.sequences(run, refs)
    for step in ("reverse", "ccg"):
        refs |= pipeline.make(step, run, refs)
    with transaction(warehouse) as connection:  # nothing comes of it that anybody should see
        connection.execute(text("delete from runs where run_id = :run"), {"run": run_id})
    return run, refs


def users(run: Run, refs: Made) -> int:
    """Who is asked."""
    return int(run.workspace.summary(Artefact(**refs["training"]))["users"])


def hashes(run: Run, refs: Made, batches: Sequence[Batch]) -> list[list[str]]:
    """Of every batch's questions, as the ranker draws its faults by them."""
    catalogue, training, ccg = (
        run.workspace.folder(Artefact(**refs[name])) for name in ("catalogue", "training", "ccg")
    )
    known = Catalogue.read(catalogue)
    histories, pools = Histories.read(training / "histories.parquet"), Histories.read(ccg / POOLS)
    found = []
    for batch in batches:
        parts = batch.of(histories)
        inquiries = inquiries_of(snf, parts, {"ccg": batch.of(pools)}, known, run.config)
        questions = [inquiry.question for inquiry in inquiries if inquiry.question]
        found.append([hashlib.sha256(orjson.dumps(question.messages)).hexdigest() for question in questions])
    return found


def fault(run: Run, refs: Made, batches: Sequence[Batch], failing: int) -> str:
    """A spec by which so many batches fail, if they are asked in their order."""
    questions = hashes(run, refs, batches)
    rate = 1 - (1 - failing / len(questions)) ** (1 / len(questions[0]))
    for seed in itertools.count():
        spec = f"seed={seed},arrears={rate:.6f}"
        if fail_by(parse_spec(spec), questions) == failing:
            return spec
    raise AssertionError("unreachable")


def fail_by(faults: Faults, questions: Sequence[Sequence[str]]) -> int:
    """How many batches fail. What one batch was refused, the next that has the same question asks again."""
    asked, answered, failing = Counter[str](), set[str](), 0
    for batch in questions:
        refused = {one for one in set(batch) - answered if faults.draw(one, "", asked[one])}
        answered |= set(batch) - refused
        asked.update(refused)
        failing += bool(refused)
    return failing
