"""`llmser estimate`"""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Any

import click

from llmser_tasks.commands.formats import FLOAT, FORMATS, TEXT, WHOLE
from llmser_tasks.commands.options import given, of_settings
from llmser_tasks.commands.show import format_option, opened, refuse_unreadable
from llmser_tasks.core import environment
from llmser_tasks.services.terminal import log_to, stderr
from llmser_tasks.warehouse import address
from llmser_tasks.warehouse.queries import Rows

COLUMNS = {
    "step": TEXT, "users": WHOLE, "questions": WHOLE, "answered": WHOLE, "calls": WHOLE, "prompt_tokens": WHOLE,
    "completion_tokens": WHOLE, "cost": FLOAT, "most": FLOAT, "hours": FLOAT,
}  # fmt: skip


@click.command()
@of_settings()
@format_option
@click.pass_context
def estimate(ctx: click.Context, /, form: str, **options: Any) -> None:
    """Say what a run with these settings would ask, and what that would cost, without asking anything.

    `answered` is what the ledger knows already, `most` the price if every answer were as long as it may be, `hours` the
    time that the endpoint's limits per minute take at the least. The dumps are read; nothing is trained: popular items
    stand in for the candidates. Texts that an endpoint will embed have rows of their own, where `users` are texts.
    """
    refuse_unreadable(form)
    values = given(ctx, options)
    config = environment.configuration(values)
    console = stderr()
    log_to(console)
    with address.database() as warehouse:
        from llmser_tasks.runs import estimate as estimates
        from llmser_tasks.runs import pipeline

        workspace = environment.workspace()
        endpoint = pipeline.configured_endpoint(config.llm.endpoint)
        embedding = partial(pipeline.configured_endpoint, embeds=True)
        found = estimates.before_training(
            workspace, config, endpoint=endpoint, warehouse=warehouse, endpoint_of=embedding
        )
    if endpoint.cost(1, 1) is None:
        console.print(f"What {endpoint.model} costs is unknown: it is in no price table.", markup=False)
    rows = ([asdict(each)[name] for name in COLUMNS] for each in found)
    with opened(None) as out:
        FORMATS[form](Rows(list(COLUMNS), list(COLUMNS.values()), rows), out)
