"""A tiny Llama with random weights and a tokenizer, for `transformers serve`. Started by `benchmarks/servers.py`.

Arguments: the folder to write, how many tokens fit into its context, a file with texts to learn the tokenizer from.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

FOLDER, CONTEXT, TEXTS = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
SPECIAL = ["<unk>", "<s>", "</s>"]
TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)

learnt = Tokenizer(models.BPE(unk_token="<unk>"))
learnt.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
learnt.decoder = decoders.ByteLevel()
alphabet = pre_tokenizers.ByteLevel.alphabet()
learnt.train([str(TEXTS)], trainers.BpeTrainer(vocab_size=800, special_tokens=SPECIAL, initial_alphabet=alphabet))
tokenizer = PreTrainedTokenizerFast(tokenizer_object=learnt, unk_token="<unk>", bos_token="<s>", eos_token="</s>")
tokenizer.chat_template = TEMPLATE
tokenizer.model_max_length = CONTEXT
tokenizer.save_pretrained(FOLDER)
torch.manual_seed(42)
LlamaForCausalLM(
    LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=CONTEXT,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        initializer_range=0.2,
    )
).save_pretrained(FOLDER)
