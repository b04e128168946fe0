"""LLMSeR, step by step: pools before the first item (CCG), the filter (SNF), pseudo items, the test of trust (RCS,
Reason), ω and α, and the training on both sequences.
"""
