"""`llmser ingest`"""

from __future__ import annotations

from typing import Any

import click

from llmser_tasks.commands.options import given, of_settings
from llmser_tasks.core import environment
from llmser_tasks.core.console import echo
from llmser_tasks.services.terminal import log_to, shown, stderr
from llmser_tasks.warehouse import address


@click.command()
@of_settings("dataset")
@click.pass_context
def ingest(ctx: click.Context, /, **options: Any) -> None:
    """Read a dataset's dumps into the artefact store, without a run; the report's path goes to stdout."""
    from llmser_tasks.ingest import ingest as read
    from llmser_tasks.ingest import report

    dataset = environment.configuration(given(ctx, options)).dataset
    workspace = address.claimed(environment.workspace())
    console = stderr()
    log_to(console)
    with shown(console, f"Reading {dataset.name}") as progress:
        artefact = read(workspace, dataset, progress, inbox=environment.inbox())
    facts = workspace.summary(artefact)
    unchanged = "; unchanged" if artefact.unchanged else ""
    console.print(f"{report.line(dataset.name, facts)}{unchanged}.", markup=False)
    for warning in report.warnings(dataset.name, facts):
        console.print(f"WARNING: {warning}", markup=False, style="yellow")
    echo(workspace.folder(artefact) / "report.json")
