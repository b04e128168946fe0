"""LLMSeR: LLM-based data augmentation for sequential recommendation, step by step.

The folders stand in the order in which data passes through them: ingest, sequences, recommenders, augmentation,
reliability, evaluation; `llm` and `warehouse` serve them. Nothing here imports airflow.
"""

__version__ = "0.1.0"
