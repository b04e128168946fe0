"""SRA-CL (Cui et al., NeurIPS 2025, arXiv 2503.04162): contrast with users and items whose texts are near."""
