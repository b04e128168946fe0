"""`llmser serve-ranker`"""

from __future__ import annotations

from llmser_tasks.llm.ranker import main as serve_ranker

__all__ = ["serve_ranker"]
