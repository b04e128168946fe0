"""`llmser ingest`"""

from __future__ import annotations

from typing import Any

import click

from llmser_tasks import settings
from llmser_tasks.commands.options import given, of_settings
from llmser_tasks.commands.terminal import log_to, shown, stderr
from llmser_tasks.console import echo


@click.command()
@of_settings("dataset")
@click.pass_context
def ingest(ctx: click.Context, /, **options: Any) -> None:
    """Read a dataset's dumps into the artefact store, without a run; the report's path goes to stdout."""
    from llmser_tasks.ingest import ingest as read

    dataset = settings.configuration(given(ctx, options)).dataset
    workspace = settings.workspace()
    console = stderr()
    log_to(console)
    with shown(console, f"Reading {dataset.name}") as progress:
        artefact = read(workspace, dataset, progress, inbox=settings.inbox())
    facts = workspace.summary(artefact)
    after, lines = facts["after"], facts["lines"]
    name = f"{dataset.name} (SYNTHETIC)" if facts["synthetic"] else dataset.name
    console.print(
        f"{name}: {after['users']:,} users, {after['items']:,} items,"
        f" {after['interactions']:,} interactions of {lines['read']:,} lines; {lines['quarantined']:,} quarantined"
        f"{'; unchanged' if artefact.unchanged else ''}.",
        markup=False,
    )
    echo(workspace.folder(artefact) / "report.json")
