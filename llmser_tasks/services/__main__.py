"""`python -m llmser_tasks.services`: what `make demo` runs."""

from __future__ import annotations

import click

from llmser_tasks.core import environment
from llmser_tasks.core.console import speak
from llmser_tasks.core.errors import LlmserError
from llmser_tasks.core.private import keep_private
from llmser_tasks.services import local


@click.command()
@click.option("--wait/--no-wait", default=True, help="Stay up after the figures, until Ctrl-C.")
def main(wait: bool) -> None:
    """The whole pipeline on synthetic sample dumps, on Airflow, with its figures at the end."""
    keep_private()
    try:
        local.demo(environment.home(), wait=wait)
    except LlmserError as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    speak()
    main()
