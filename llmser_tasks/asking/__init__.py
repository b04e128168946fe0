"""Asking an LLM about batches of users, whatever the question."""
