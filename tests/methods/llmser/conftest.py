"""An endpoint that answers by rule, and a run to write for."""

from endpoint_double import llm, llm_server, run_id

__all__ = ["llm", "llm_server", "run_id"]
