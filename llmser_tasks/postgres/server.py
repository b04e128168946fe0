"""A running server, and the addresses of its databases."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from llmser_tasks.postgres import launching


@dataclass(frozen=True)
class Server:
    """A running server. Its URLs hold passwords; its repr does not."""

    port: int
    pid: int
    data: Path
    home: Path
    passwords: dict[str, str] = field(repr=False)

    @property
    def url(self) -> str:
        return self.url_of("llmser")

    @property
    def airflow_url(self) -> str:
        return self.url_of("airflow")

    def url_of(self, database: str, role: str | None = None) -> str:
        """URL of a database for a role, by default the database's owner."""
        role = role or database
        return f"postgresql+psycopg2://{role}:{self.passwords[role]}@127.0.0.1:{self.port}/{database}"

    def stop(self) -> None:
        launching.stop(self.home)
