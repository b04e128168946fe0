"""A stranger's server is asked for its status, whatever else it sends."""

from __future__ import annotations

import httpx
import pytest
from hostile_server import bomb, dripping, endless, head, hostile, whole
from patience import PATIENCE_S

from llmser_tasks.commands import doctor
from llmser_tasks.llm.endpoint import Endpoint
from llmser_tasks.services.status import status_of

MIB = 1 << 20


@pytest.mark.parametrize(
    "body", [endless, lambda: dripping(head()), lambda: bomb(64 * MIB, 2), lambda: whole({}), lambda: [head()]]
)
def test_no_body_is_read(body: object) -> None:
    with hostile(lambda path, sent: body()) as server:  # type: ignore[operator]
        assert status_of("POST", server.url, within_s=PATIENCE_S, json={"a": 1}) == 200
        assert server.sent < 8 * MIB and len(server.asked) == 1


def test_a_redirect_is_not_followed() -> None:
    with hostile(lambda path, sent: [head(302, location="/elsewhere")]) as server:
        assert status_of("GET", server.url, within_s=PATIENCE_S) == 302
        assert server.asked == ["/v1"]


def test_headers_that_drip_for_ever_are_no_answer() -> None:
    with hostile(lambda path, sent: dripping(b"HTTP/1.1 200 OK\r\nx: ")) as server, pytest.raises(httpx.ReadTimeout):
        status_of("GET", server.url, within_s=0.3)


def test_the_doctor_is_neither_kept_waiting_nor_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PROBE_S", PATIENCE_S)
    with hostile(lambda path, sent: endless()) as server:
        found = doctor._asked(Endpoint("of LLMSER_LLM_URL", server.url, "m", key="sk-planted-0123456789"))
        assert (found.text.endswith("with a key: answers"), found.remedy) == (True, "")
        assert server.sent < 8 * MIB and server.asked == ["/v1/models"]
        monkeypatch.setattr(doctor, "PROBE_S", 0.5)
        server.script = lambda path, sent: dripping(b"HTTP/1.1 200 OK\r\nx: ")
        found = doctor._asked(Endpoint("of LLMSER_LLM_URL", server.url, "m"))
        assert "does not answer (ReadTimeout)" in found.text and found.remedy
