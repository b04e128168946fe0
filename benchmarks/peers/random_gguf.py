"""A tiny Llama with random weights as a GGUF file, for llama.cpp's server. Started by `benchmarks/servers.py`.

Arguments: the file to write, how many tokens fit into its context.
Its vocabulary is the 256 bytes, so that any text and any grammar can be said.
"""

from __future__ import annotations

import sys

import gguf
import numpy as np

FILE, CONTEXT = sys.argv[1], int(sys.argv[2])
WIDTH, HEADS, LAYERS, INNER = 64, 4, 2, 128
SPECIAL = ("<unk>", "<s>", "</s>")
TOKENS = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256))]
TYPES = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL, *[gguf.TokenType.BYTE] * 256]
TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"

draw = np.random.default_rng(42)


def weights(*shape: int) -> np.ndarray:
    return draw.normal(0, shape[-1] ** -0.5, shape).astype(np.float32)


made = gguf.GGUFWriter(FILE, "llama")
made.add_name("random")
made.add_context_length(CONTEXT)
made.add_embedding_length(WIDTH)
made.add_block_count(LAYERS)
made.add_feed_forward_length(INNER)
made.add_head_count(HEADS)
made.add_head_count_kv(HEADS)
made.add_layer_norm_rms_eps(1e-5)
made.add_rope_dimension_count(WIDTH // HEADS)
made.add_vocab_size(len(TOKENS))
made.add_file_type(gguf.LlamaFileType.ALL_F32)
made.add_tokenizer_model("llama")
made.add_token_list(TOKENS)
made.add_token_scores([0.0] * len(TOKENS))
made.add_token_types(TYPES)
made.add_unk_token_id(0)
made.add_bos_token_id(1)
made.add_eos_token_id(2)
made.add_chat_template(TEMPLATE)
made.add_tensor("token_embd.weight", weights(len(TOKENS), WIDTH))
for layer in range(LAYERS):
    for name, shape in {
        "attn_q": (WIDTH, WIDTH),
        "attn_k": (WIDTH, WIDTH),
        "attn_v": (WIDTH, WIDTH),
        "attn_output": (WIDTH, WIDTH),
        "ffn_gate": (INNER, WIDTH),
        "ffn_up": (INNER, WIDTH),
        "ffn_down": (WIDTH, INNER),
    }.items():
        made.add_tensor(f"blk.{layer}.{name}.weight", weights(*shape))
    for name in ("attn_norm", "ffn_norm"):
        made.add_tensor(f"blk.{layer}.{name}.weight", np.ones(WIDTH, np.float32))
made.add_tensor("output_norm.weight", np.ones(WIDTH, np.float32))
made.add_tensor("output.weight", weights(len(TOKENS), WIDTH))
made.write_header_to_file()
made.write_kv_data_to_file()
made.write_tensors_to_file()
made.close()
