"""The embedding ranker: an OpenAI-compatible server on this machine, and its faults."""
