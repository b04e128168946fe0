"""Who is told what: over loopback, with hostile text, and with receivers that fail."""

from __future__ import annotations

import email
import json
import logging
import signal
import socketserver
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from email.message import Message
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from airflow.sdk import BaseNotifier
from hostile_server import dripping, endless, head, hostile
from patience import PATIENCE_S, until
from sqlalchemy import text

import llmser_notice
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.tables import notices
from llmser_tasks.warehouse.tables.notices import Notice

HOSTILE = "Bcc: a@b\r\nX-Evil: 1\n<script>alert(1)</script> {{ 7 * 7 }} {% raw %} \u202e<b>“said”</b> &amp; more"


class Webhook(HTTPServer):
    """Keeps what it is sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Posted)
        self.received: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.status = 200


class Posted(BaseHTTPRequestHandler):
    server: Webhook

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.received.append((self.path, dict(self.headers), body))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


class Mail(socketserver.TCPServer):
    """The least SMTP that a client needs; keeps envelopes and messages."""

    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Conversation)
        self.recipients: list[str] = []
        self.messages: list[Message] = []


class Conversation(socketserver.StreamRequestHandler):
    server: Mail

    def handle(self) -> None:
        self._say("220 here")
        for raw in self.rfile:
            line = raw.decode().strip()
            if line.upper().startswith("RCPT"):
                self.server.recipients.append(line.split("<")[1].rstrip(">"))
            if line.upper() == "DATA":
                self._say("354 go on")
                lines = iter(self.rfile.readline, b".\r\n")
                self.server.messages.append(email.message_from_bytes(b"".join(lines)))
            self._say("250 fine" if line.upper() != "QUIT" else "221 bye")

    def _say(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    yield from served(Webhook())


@pytest.fixture
def mail() -> Iterator[Mail]:
    yield from served(Mail())


def served(server: Any) -> Iterator[Any]:
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def connect(monkeypatch: pytest.MonkeyPatch, name: str, **fields: Any) -> None:
    monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(fields))


Tell = Callable[..., None]


@pytest.fixture
def tell(monkeypatch: pytest.MonkeyPatch, warehouse: Warehouse) -> Tell:
    """Note something and tell these receivers."""

    def told(receivers: str, sentence: str = "It failed.", **other: str) -> None:
        monkeypatch.setenv(llmser_notice.SETTING, receivers)
        add(warehouse, sentence, **other)
        llmser_notice.deliver(warehouse)

    return told


def add(warehouse: Warehouse, sentence: str = "It failed.", **other: str) -> None:
    given = {
        "run_id": "manual__1", "event": "run failed", "occasion": "1", "dataset": "beauty",
        "then": "`llmser rerun-failed manual__1` reruns it.",
    }  # fmt: skip
    with transaction(warehouse) as connection:
        notices.add(connection, Notice(sentence=sentence, **given | other))


def test_a_webhook_gets_json_with_a_text_for_people(
    tell: Tell, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = webhook.server_address[1]
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "http://127.0.0.1:8080/")
    connect(monkeypatch, "hook", conn_type="http", host="http://127.0.0.1/hooks/T1", port=port, login="u", password="p")
    tell("hook", "37 of 512 unanswered.")
    ((path, headers, body),) = webhook.received
    assert path == "/hooks/T1" and headers["Authorization"].startswith("Basic ")
    assert (body["event"], body["run"], body["dataset"]) == ("run failed", "manual__1", "beauty")
    assert body["text"].splitlines()[:3] == [
        "LLMSeR, beauty: run failed (run manual__1)",
        "37 of 512 unanswered.",
        "`llmser rerun-failed manual__1` reruns it.",
    ]
    assert body["page"] == "http://127.0.0.1:8080/dags/llmser/runs/manual__1"


def test_a_mail_is_escaped_and_its_header_stays_one_line(
    tell: Tell, mail: Mail, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(
        monkeypatch, "post", conn_type="smtp", host="127.0.0.1", port=mail.server_address[1],
        extra={"from_email": "llmser@here", "to": "a@there, b@there", "disable_ssl": True, "disable_tls": True},
    )  # fmt: skip
    tell("post", HOSTILE, dataset=HOSTILE, run_id="r\r\nBcc: c@there")
    assert mail.recipients == ["a@there", "b@there"]
    (message,) = mail.messages
    assert message["From"] == "llmser@here" and message["Bcc"] is None and message["X-Evil"] is None
    assert "\n" not in str(email.header.make_header(email.header.decode_header(message["Subject"])))
    text = "".join(
        part.get_payload(decode=True).decode()  # type: ignore[union-attr]
        for part in message.walk()
        if part.get_content_maintype() == "text"
    )
    assert "{{ 7 * 7 }}" in text and "49" not in text, "nothing is read as a template"
    assert "&amp; more" in text and "<script" not in text and "<b>" not in text


class Kept(BaseNotifier):
    """A notifier that users could have."""

    template_fields = ("text",)
    told: ClassVar[list[str]] = []

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def notify(self, context: Any) -> None:
        self.told.append(self.text)


def test_any_notifier_may_use_the_notice_and_does_not_read_it_as_a_template(
    tell: Tell, monkeypatch: pytest.MonkeyPatch
) -> None:
    Kept.told.clear()
    described = {"notifier": f"{__name__}.Kept", "kwargs": {"text": "{{ notice.event }}: {{ notice.sentence }}"}}
    tell(json.dumps([described]), "{{ 7 * 7 }} users")
    assert Kept.told == ["run failed: {{ 7 * 7 }} users"]


@pytest.mark.parametrize("path", ["os.mkdir", "no.such.thing", "nothing"])
def test_what_is_no_notifier_is_not_run(tell: Tell, path: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    described = {"notifier": path, "kwargs": {"path": str(tmp_path / "ran")}}
    tell(json.dumps([described]))
    assert not (tmp_path / "ran").exists()


def test_who_cannot_be_told_is_a_line_in_the_log_without_the_address_and_the_others_are_told(
    tell: Tell, webhook: Webhook, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    here = f"http://127.0.0.1:{webhook.server_address[1]}"
    connect(monkeypatch, "hook", conn_type="http", host=f"{here}/good")
    connect(monkeypatch, "gone", conn_type="http", host="http://127.0.0.1:9/secret-path", password="hunter2")
    connect(monkeypatch, "ftp", conn_type="ftp", host="127.0.0.1")
    with caplog.at_level(logging.DEBUG):
        tell("gone, unknown_one, ftp, hook")
    assert [path for path, *_ in webhook.received] == ["/good"]
    warned = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert [line.split(" of ")[0] for line in warned if line.startswith("Could not tell")] == [
        "Could not tell gone", "Could not tell unknown_one", "Could not tell ftp",
    ]  # fmt: skip
    assert "hunter2" not in caplog.text and not any("secret-path" in line for line in warned)


@pytest.mark.parametrize("value", ["[1]", '[{"kwargs": {}}]', "[broken", ""])
def test_a_setting_that_cannot_be_read_fails_nothing(tell: Tell, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tell(value)


@pytest.mark.parametrize(
    ("sends", "told"),
    [(endless, True), (lambda: dripping(head()), True), (lambda: dripping(b"HTTP/1.1 200 OK\r\nx: "), False)],
)
def test_a_webhook_that_never_ends_keeps_nobody_waiting(
    tell: Tell,
    sends: Callable[[], Iterable[bytes]],
    told: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(llmser_notice, "TIMEOUT_S", PATIENCE_S if told else 0.5)
    caplog.set_level(logging.INFO)
    with hostile(lambda path, body: sends()) as server:
        connect(monkeypatch, "hook", conn_type="http", host=server.url)
        tell("hook")
        assert len(server.asked) == 1 and server.sent < 8 << 20
    assert ("Told hook: run failed" in caplog.text) is told
    assert ("Could not tell hook" in caplog.text) is not told


def test_nobody_is_told_twice_of_the_same(tell: Tell, webhook: Webhook, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, "hook", conn_type="http", host=f"http://127.0.0.1:{webhook.server_address[1]}/here")
    tell("hook")
    tell("hook")
    tell("hook", occasion="2")
    assert len(webhook.received) == 2
    ids = [(body["id"], headers["Idempotency-Key"]) for _, headers, body in webhook.received]
    assert ids[0][0] == ids[0][1] != ids[1][0]


def test_who_could_not_be_told_is_told_at_the_next_look_and_the_others_not_again(
    tell: Tell, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = f"http://127.0.0.1:{webhook.server_address[1]}"
    connect(monkeypatch, "hook", conn_type="http", host=f"{here}/good")
    connect(monkeypatch, "later", conn_type="http", host="http://127.0.0.1:9/")
    tell("hook,later")
    connect(monkeypatch, "later", conn_type="http", host=f"{here}/later")
    tell("hook,later")
    tell("hook,later")
    assert [path for path, *_ in webhook.received] == ["/good", "/later"]
    assert not any("already" in body["text"] for _, _, body in webhook.received)


def test_one_that_is_never_there_is_given_up(tell: Tell, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[str] = []

    def send(receiver: str, _: object) -> None:
        tries.append(receiver)
        raise OSError

    monkeypatch.setattr(llmser_notice, "send", send)
    for _ in range(notices.MOST_TRIES + 5):
        tell("gone")
    assert len(tries) == notices.MOST_TRIES


DIES = """
import os, signal, sys
sys.path.append(sys.argv[3])
import llmser_notice
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.warehouse.tables import notices

moment, url = sys.argv[1:3]
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
send, tell = llmser_notice.send, notices._tell
if moment == "before it was held":
    notices._taken = die
elif moment == "before it was told":
    notices._tell = die
elif moment == "while it was told":
    llmser_notice.send = lambda *about: die(send(*about))
else:
    notices._tell = lambda *about: die(tell(*about))
llmser_notice.deliver(Warehouse(url))
"""


@pytest.mark.parametrize(
    "moment", ["before it was held", "before it was told", "while it was told", "after it was told"]
)
def test_whoever_is_killed_on_the_way_it_is_told_once(
    webhook: Webhook, monkeypatch: pytest.MonkeyPatch, warehouse: Warehouse, moment: str
) -> None:
    """Where nobody can know whether it went out, once more, under the same id and with a line that says so."""
    connect(monkeypatch, "hook", conn_type="http", host=f"http://127.0.0.1:{webhook.server_address[1]}/here")
    monkeypatch.setenv(llmser_notice.SETTING, "hook")
    add(warehouse)
    folder = str(Path(llmser_notice.__file__).parent)
    killed = subprocess.run([sys.executable, "-c", DIES, moment, warehouse.url, folder], check=False)
    assert killed.returncode == -signal.SIGKILL
    until(lambda: llmser_notice.deliver(warehouse) or settled(warehouse))
    bodies = [body for _, _, body in webhook.received]
    assert len({body["id"] for body in bodies}) == 1
    told_before = ["you may have had this already" in body["text"] for body in bodies]
    assert told_before == ([False, True] if moment == "while it was told" else [False])


def settled(warehouse: Warehouse) -> bool:
    with transaction(warehouse) as connection:
        return bool(connection.scalar(text("select bool_and(sent_at is not null) from notices")))
