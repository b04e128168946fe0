"""`llmser published`, `llmser publish` and `llmser rollback`"""

from __future__ import annotations

import click

from llmser_tasks.commands.formats import FORMATS
from llmser_tasks.commands.show import announced, format_option, opened, refuse_unreadable
from llmser_tasks.core.console import echo
from llmser_tasks.warehouse import address
from llmser_tasks.warehouse.tables.publications import Publication


@click.command()
@click.argument("dataset", required=False)
@format_option
def published(dataset: str | None, form: str) -> None:
    """List what readers were given of DATASET, or of every dataset, newest first; * marks what they have now.

    `method` is the one that a run recommends by, and `why` says why it is this one.
    """
    from llmser_tasks.warehouse.tables import publications

    refuse_unreadable(form)
    with address.kept_database() as warehouse, publications.listed(warehouse, dataset) as found, opened(None) as out:
        FORMATS[form](found, out)


@click.command()
@click.argument("run")
def publish(run: str) -> None:
    """Give readers the results of RUN (its id, or `latest`), whatever the gate said."""
    from llmser_tasks.warehouse.tables import publications

    with address.kept_database() as warehouse:
        _tell(publications.publish(warehouse, announced(warehouse, run).run_id))


@click.command()
@click.argument("dataset")
@click.option("--to", help="Run to go back to. Default: the one that was published before the current one.")
def rollback(dataset: str, to: str | None) -> None:
    """Give readers of DATASET an earlier run again. Repeated, it goes further back."""
    from llmser_tasks.warehouse.tables import publications

    with address.kept_database() as warehouse:
        _tell(publications.rollback(warehouse, dataset, to))


def _tell(now: Publication) -> None:
    echo(f"Readers of {now.dataset} have run {now.run_id} (version {now.version}).")
