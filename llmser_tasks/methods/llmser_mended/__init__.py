"""LLMSeR with what was measured to keep it from its gain mended; it shares LLMSeR's steps and answers."""
