"""`llmser answers`"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from llmser_tasks.commands.formats import FORMATS
from llmser_tasks.commands.show import Counted, force_option, form_of, opened, refuse_overwriting
from llmser_tasks.core.console import echo
from llmser_tasks.core.errors import InputError
from llmser_tasks.core.kinds import QUESTION_STEPS
from llmser_tasks.warehouse import address
from llmser_tasks.warehouse.engine import where

F = TypeVar("F", bound=Callable[..., Any])


@click.group()
def answers() -> None:
    """What LLMs answered, over all runs: a question answered here is not paid for again."""


def selected(command: F) -> F:
    """Options that say which answers are meant."""
    for option in reversed(
        (
            click.option("--older-than", type=click.IntRange(0), metavar="DAYS", help="Only those that are older."),
            click.option("--model", help="Only those of this model, as it was asked for."),
            click.option("--step", type=click.Choice(list(QUESTION_STEPS)), help="Only those of this step."),
            click.option("--prompt-version", help="Only those to this version of a prompt."),
            click.option("--failed", is_flag=True, help="Only questions that failed for good."),
            click.option("--unusable", is_flag=True, help="Only those in which nothing of use was found."),
            click.option(
                "--unused", is_flag=True, help="Only those that no run refers to any more; not vectors of texts."
            ),
        )
    ):
        command = option(command)
    return command


@answers.command()
@selected
@click.option("--dry-run", is_flag=True, help="Only count them.")
def prune(dry_run: bool, **chosen: Any) -> None:
    """Forget answers: whoever asks the same again pays again. Their number goes to stdout."""
    from llmser_tasks.warehouse import retention

    selection = retention.Selection(**chosen)
    with address.kept_database() as warehouse:
        number, cost = retention.count(warehouse, selection)
        if not dry_run:
            number = retention.prune(warehouse, selection)
    echo(f"{'Would forget' if dry_run else 'Forgot'} {number:,} answers that cost {cost:,.4f}.", err=True)
    echo(number)


@answers.command()
@selected
@click.option("--format", "form", type=click.Choice(list(FORMATS)), help="Default: as the file's suffix says, or csv.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File. Default: stdout.")
@force_option
def export(form: str | None, output: Path | None, force: bool, **chosen: Any) -> None:
    """Write answers, oldest first, one a line; values are exact."""
    from llmser_tasks.warehouse import retention

    output = None if output == Path("-") else output
    form = form_of(form, output)
    refuse_overwriting(output, force)
    with (
        address.kept_database() as warehouse,
        retention.read(warehouse, retention.Selection(**chosen)) as found,
    ):
        first = next(found.rows, None)
        if first is None:
            raise InputError(f"No answers are selected of those in {where(warehouse.url)}; nothing was written.")
        with opened(output) as out:
            rows = Counted(itertools.chain([first], found.rows))
            FORMATS[form](replace(found, rows=rows), out)
    if output:
        echo(f"Wrote {output}: {rows.number:,} rows.", err=True)
