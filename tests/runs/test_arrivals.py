"""Looking into every dataset's inbox, each minute."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llmser_tasks.core.handle import Warehouse
from llmser_tasks.runs import arrivals


def test_one_inbox_that_leads_elsewhere_stops_no_other(
    warehouse: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("LLMSER_HOME", str(tmp_path / "home"))
    inbox = tmp_path / "inbox"
    for folder in (inbox / "fashion", tmp_path / "elsewhere"):
        folder.mkdir(parents=True)
        (folder / "new.json").write_text("{}\n", encoding="utf-8")
        os.utime(folder / "new.json", (1e9, 1e9))
    (inbox / "beauty").symlink_to(tmp_path / "elsewhere")
    assert arrivals.due(warehouse, str(inbox), lambda _: False) == ["fashion"]
    assert f"The inbox {inbox}/beauty is a link that leads out of {inbox}" in caplog.text
