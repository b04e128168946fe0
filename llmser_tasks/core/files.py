"""Files that one step leaves for another, so that neither needs to know the other's code."""

EMBEDDINGS = "embeddings"  # below the artefact store: vectors of titles, by encoder
PSEUDO = "pseudo.parquet"  # of `methods.llmser.pseudo`
RELIABILITY = "reliability.parquet"  # of `methods.llmser.score`
