"""How models are called where people read of them."""

BACKBONES = {"sasrec": "SASRec", "gru4rec": "GRU4Rec", "bert4rec": "BERT4Rec"}
MODELS = {"popularity": "popularity", "cooccurrence": "co-occurrence", "base": "base", "llmser": "LLMSeR"}
