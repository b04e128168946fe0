"""Texts → vectors by an endpoint's /v1/embeddings, asked, limited, paid and remembered as questions are."""
