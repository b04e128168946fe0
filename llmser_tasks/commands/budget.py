"""`llmser budget`"""

from __future__ import annotations

import click

from llmser_tasks.commands.show import announced
from llmser_tasks.core.console import echo
from llmser_tasks.warehouse import address


@click.command()
@click.argument("run")
@click.argument("amount", type=click.FloatRange(0), required=False)
@click.option("--none", "unlimited", is_flag=True, help="Let it spend what it takes.")
def budget(run: str, amount: float | None, unlimited: bool) -> None:
    """Show what a run (its id, or `latest`) has spent of its budget, or give it another one.

    What it has spent counts: AMOUNT is for the whole run, in the currency of the price table.
    """
    from llmser_tasks.warehouse.tables import runs

    if amount is not None and unlimited:
        raise click.UsageError("Give an amount or --none, not both.")
    with address.kept_database() as warehouse:
        run_id = announced(warehouse, run).run_id
        if amount is not None or unlimited:
            runs.set_budget(warehouse, run_id, amount)
        spent, of = runs.spending(warehouse, run_id)
    echo(f"{spent:.6g} of {'no limit' if of is None else f'{of:.6g}'}")
