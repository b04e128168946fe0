"""Files by which steps know each other's results, where one need not know the other's code."""

EMBEDDINGS = "embeddings"  # below the artefact store: what titles come to, by encoder
PSEUDO = "pseudo.parquet"  # of `methods.llmser.pseudo`
RELIABILITY = "reliability.parquet"  # of `methods.llmser.score`
