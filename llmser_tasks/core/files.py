"""Files by which steps know each other's results, where one need not know the other's code."""

PSEUDO = "pseudo.parquet"  # of `methods.llmser.pseudo`
RELIABILITY = "reliability.parquet"  # of `methods.llmser.score`
