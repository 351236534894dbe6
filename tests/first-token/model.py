"""Makes a tiny model for llama.cpp: python model.py FILE

One layer of the LLaMA architecture with random weights, 0.2 MB. What it says has no meaning; it says it in words, because the rows of
all other tokens in the output layer are negative where the hidden state is always positive.
"""

import sys

import gguf
import numpy

EMBEDDING, HEADS, FEED_FORWARD, CONTEXT = 64, 2, 128, 2048
WORDS = "the water of a river runs down to sea and gate opens when it is told so nothing stops".split()
TEMPLATE = "{% for message in messages %}{{ message['content'] }} {% endfor %}"

SPECIAL = ["<unk>", "<s>", "</s>"]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
TOKENS = SPECIAL + BYTES + [f"\u2581{word}" for word in WORDS]
KINDS = (
    [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL]
    + [gguf.TokenType.BYTE] * len(BYTES)
    + [gguf.TokenType.NORMAL] * len(WORDS)
)


def main(path: str) -> None:
    random = numpy.random.default_rng(1)

    def weights(*shape: int) -> numpy.ndarray:
        return (random.standard_normal(shape) * 0.02).astype(numpy.float32)

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(EMBEDDING)
    writer.add_block_count(1)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(EMBEDDING // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(TOKENS)
    writer.add_token_scores([0.0] * len(TOKENS))
    writer.add_token_types(KINDS)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_chat_template(TEMPLATE)

    embedding = weights(len(TOKENS), EMBEDDING)
    embedding[:, 0] = 1.0
    output = weights(len(TOKENS), EMBEDDING)
    output[:, 0] = -1.0
    output[len(SPECIAL) + len(BYTES) :, 0] = 1.0
    ones = numpy.ones(EMBEDDING, dtype=numpy.float32)
    for name, tensor in {
        "token_embd.weight": embedding,
        "output_norm.weight": ones,
        "output.weight": output,
        "blk.0.attn_norm.weight": ones,
        "blk.0.attn_q.weight": weights(EMBEDDING, EMBEDDING),
        "blk.0.attn_k.weight": weights(EMBEDDING, EMBEDDING),
        "blk.0.attn_v.weight": weights(EMBEDDING, EMBEDDING),
        "blk.0.attn_output.weight": weights(EMBEDDING, EMBEDDING),
        "blk.0.ffn_norm.weight": ones,
        "blk.0.ffn_gate.weight": weights(FEED_FORWARD, EMBEDDING),
        "blk.0.ffn_up.weight": weights(FEED_FORWARD, EMBEDDING),
        "blk.0.ffn_down.weight": weights(EMBEDDING, FEED_FORWARD),
    }.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


main(sys.argv[1])
