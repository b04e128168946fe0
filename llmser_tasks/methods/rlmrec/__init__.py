"""RLMRec (Ren et al., WWW 2024, arXiv 2310.15950): what a model learns of items is held to their texts."""
