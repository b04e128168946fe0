"""LLM-ESR (Liu et al., NeurIPS 2024, arXiv 2405.20646): two views of items, and self-distillation among users."""
