"""CITIES (Jang et al., ICDM 2020, arXiv 2105.10868): rare items' vectors are inferred from their contexts."""
