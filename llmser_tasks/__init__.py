"""LLMSeR: LLM-based data augmentation for sequential recommendation, step by step.

Data passes through `ingest`, `sequences`, `recommenders`, `asking`, `methods` and `evaluation`, in this order; `llm`
and `warehouse` serve them. Nothing here imports airflow.
"""

__version__ = "0.1.0"
