"""Who is told when a run fails, its budget is used up or a refresh does not get through its gate.

LLMSER_NOTIFY, in the environment or as an Airflow Variable, names them, separated by commas or as a JSON list:

- a connection of type *smtp*: a mail, from its `from_email` to the addresses in its extra `to`;
- a connection of type *http*: a webhook's address; it gets JSON, whose `text` is what Slack and Mattermost show;
- `{"notifier": "path.of.a.Notifier", "kwargs": {"text": "{{ notice.text }}"}}`: any other notifier of Airflow's; its
  template fields may use `notice.event`, `.run`, `.dataset`, `.sentence`, `.then`, `.page` and `.text`.

What is to be told stays in the table `notices` until it has been: each receiver is told once, whoever is killed on the
way. Only a kill at the very moment of telling means once more, under the same `id`, with a line that says so. Whoever
cannot be reached is tried again at the next looks, ten times at most.

A sentence may quote strangers (titles, what an endpoint said): it is never read as a template, as HTML or as a header.
A receiver that cannot be reached is a line in the log, not a failure.
"""

from __future__ import annotations

import hashlib
import html
import json
import logging
import os
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.sdk import BaseNotifier, Connection

from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.text import clean_title
from llmser_tasks.services.connections import endpoint_url

if TYPE_CHECKING:
    from llmser_tasks.warehouse.tables import notices

log = logging.getLogger(__name__)

SETTING = "LLMSER_NOTIFY"
LONGEST = 2000  # characters of a sentence
TIMEOUT_S = 10

AGAIN = "The sender was interrupted, so you may have had this already."
Notice = dict[str, str]


def deliver(warehouse: Warehouse) -> None:
    """Tell everyone whom LLMSER_NOTIFY names what the warehouse has to tell; never raises."""
    from llmser_tasks.warehouse.tables import notices

    try:
        receivers = cache(lambda: {_name(receiver): receiver for receiver in named(setting())})
        notices.deliver(
            warehouse,
            lambda: list(receivers()),
            lambda name, notice, again: tell(receivers()[name], compose(notice, again)),
        )
    except Exception as error:  # noqa: BLE001  nothing here may fail a run
        log.warning("Nobody can be told just now (%s or the warehouse cannot be read): %s", SETTING, error)


def tell(receiver: str | Mapping[str, Any], notice: Notice) -> bool:
    """Tell one receiver; whether that went well. Never raises."""
    try:
        send(receiver, notice)
    except Exception as error:  # noqa: BLE001
        # The error's own words may hold the address of a webhook, which is a secret.
        log.warning("Could not tell %s of “%s”: %s", _name(receiver), notice["event"], type(error).__name__)
        return False
    log.info("Told %s: %s", _name(receiver), notice["event"])
    return True


def compose(noted: notices.Notice, again: bool = False) -> Notice:
    """What is told, as clean lines."""
    from airflow.sdk.configuration import conf

    lines = {"event": noted.event, "run": noted.run_id, "dataset": noted.dataset, "sentence": noted.sentence,
             "then": noted.then}  # fmt: skip
    notice = {name: clean_title(text, LONGEST) or "" for name, text in lines.items()} | {"id": noted.key}
    notice["sentence"] = notice["sentence"] or "The run's page says more."
    page = conf.get("api", "base_url", fallback="")
    notice["page"] = f"{page.rstrip('/')}/dags/llmser/runs/{quote(noted.run_id, safe='')}" if page else ""
    title = f"LLMSeR, {notice['dataset']}: {notice['event']}"
    told = (
        f"{title} (run {notice['run']})",
        notice["sentence"],
        notice["then"],
        notice["page"],
        AGAIN if again else "",
    )
    return notice | {"title": title, "text": "\n".join(filter(None, told))}


def setting() -> str:
    """The environment's value, or else the Airflow Variable's."""
    from airflow.sdk import Variable

    return os.environ.get(SETTING) or str(Variable.get(SETTING, default=None) or "")


def named(value: str) -> list[str | Mapping[str, Any]]:
    """Connection ids and notifiers.

    Raises:
        ValueError: the value is no list of these.
    """
    if not value.strip().startswith("["):
        return [part.strip() for part in value.split(",") if part.strip()]
    found = json.loads(value)
    for one in found:
        if not isinstance(one, str) and not (isinstance(one, dict) and isinstance(one.get("notifier"), str)):
            raise ValueError('each must be a connection id or {"notifier": "path.of.a.Notifier", "kwargs": {…}}.')
    return list(found)


def send(receiver: str | Mapping[str, Any], notice: Notice) -> None:
    """
    Raises: Exception: whatever keeps it from being told.
    """
    if not isinstance(receiver, str):
        _notifier(receiver)({"notice": notice})
        return
    connection = Connection.get(receiver)
    ways = {"smtp": _mail, "http": _post}
    if connection.conn_type not in ways:
        raise TypeError(f"connection type {connection.conn_type}")
    ways[connection.conn_type](connection, notice)


def _notifier(described: Mapping[str, Any]) -> BaseNotifier:
    module, _, name = described["notifier"].rpartition(".")
    kind = getattr(import_module(module), name)
    if not (isinstance(kind, type) and issubclass(kind, BaseNotifier)):  # whoever may set Variables may not run all
        raise TypeError(described["notifier"])
    return kind(**described.get("kwargs", {}))


def _mail(connection: Connection, notice: Notice) -> None:
    from airflow.providers.smtp.notifications.smtp import SmtpNotifier

    body = "".join(f"<p>{html.escape(line)}</p>" for line in notice["text"].splitlines())
    notifier = SmtpNotifier(
        to=connection.extra_dejson["to"],
        subject=notice["title"],
        html_content=body,
        smtp_conn_id=connection.conn_id,
    )
    notifier.notify({})  # not by calling it, which would read subject and body as templates


def _post(connection: Connection, notice: Notice) -> None:
    """To a webhook. Not by Airflow's HTTP hook, which logs the address of one that cannot be reached."""
    from llmser_tasks.services.status import status_of

    logging.getLogger("httpx").setLevel(logging.WARNING)  # so does its line per request
    url = endpoint_url(connection.host, connection.port, connection.schema)
    login = (connection.login, connection.password or "") if connection.login else None
    headers = {"Idempotency-Key": notice["id"]} | (connection.extra_dejson.get("headers") or {})
    status = status_of("POST", url, within_s=TIMEOUT_S, json=notice, headers=headers, auth=login)
    if not 200 <= status < 300:
        raise ConnectionError(f"HTTP {status}")


def _name(receiver: str | Mapping[str, Any]) -> str:
    """What a receiver is called, here and in the warehouse; two notifiers of one kind differ in what they are given."""
    if isinstance(receiver, str):
        return receiver
    given = hashlib.sha256(json.dumps(receiver.get("kwargs"), sort_keys=True).encode()).hexdigest()[:8]
    return f"{receiver['notifier']} {given}"
