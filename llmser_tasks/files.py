"""Files by which steps know each other's results, where one need not know the other's code."""

PSEUDO = "pseudo.parquet"  # of `augmentation.pseudo`
RELIABILITY = "reliability.parquet"  # of `reliability.score`
