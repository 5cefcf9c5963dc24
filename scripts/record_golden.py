#!/usr/bin/env python3
"""Records tests/golden/gpt2.json and tests/golden/llama.json: loss, logits and gradients of two tiny models.

An independent implementation of both families in plain PyTorch operations, computed in float64, with the parameter
names and shapes of Hugging Face's GPT2LMHeadModel and LlamaForCausalLM. Weights and tokens are formulas, so that the
tests need no weight files:

  element i of the k-th parameter, names in sorted order, is float32(0.08 * sin(0.7 i + 1.3 k)), plus 1 before the
  rounding for the weights of norms;   token[b][s] = (7 b + 3 s + b s) mod vocab,   target[b][s] = (5 b + 2 s + 1) mod vocab

Needs torch (any, CPU) and numpy. Usage: scripts/record_golden.py [--against-transformers]
With --against-transformers nothing is written: the same weights go through transformers' own modules, and the largest
differences of logits, loss and gradients are printed; exits 1 if one is above MAX_DIFFERENCE.
"""
import argparse
import json
import math
import pathlib
import sys

import numpy as np
import torch
import torch.nn.functional as F

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "tests" / "golden"
COMMON = {"layers": 2, "embed": 24, "heads": 4, "vocab": 37, "seq": 12, "batch": 3}
SIZES = {
    "gpt2": {**COMMON, "kv_heads": 4, "mlp": 96, "norm_eps": 1e-5, "tied": True},
    "llama": {**COMMON, "kv_heads": 2, "mlp": 40, "norm_eps": 1e-5, "tied": False, "rope_theta": 10000.0},
}
LOGITS_AT = [(0, 0), (0, 11), (1, 0), (1, 5), (2, 3), (2, 11)]  # (batch, position)
NUM_DIGITS = 10
# transformers' Llama computes norms, rotary angles and softmax in float32 even in a float64 model; its GPT-2 does not.
MAX_DIFFERENCE = {"gpt2": 1e-12, "llama": 1e-6}


def gpt2_shapes(size):
    """Linear weights are stored [in, out], as transformers' Conv1D does. lm_head is tied to wte."""
    embed, mlp = size["embed"], size["mlp"]
    shapes = {"transformer.wte.weight": (size["vocab"], embed), "transformer.wpe.weight": (size["seq"], embed)}
    for name in ["ln_f"] + [f"h.{layer}.ln_{which}" for layer in range(size["layers"]) for which in (1, 2)]:
        shapes[f"transformer.{name}.weight"] = shapes[f"transformer.{name}.bias"] = (embed,)
    for layer in range(size["layers"]):
        for name, rows, cols in [("attn.c_attn", embed, 3 * embed), ("attn.c_proj", embed, embed),
                                 ("mlp.c_fc", embed, mlp), ("mlp.c_proj", mlp, embed)]:
            shapes[f"transformer.h.{layer}.{name}.weight"] = (rows, cols)
            shapes[f"transformer.h.{layer}.{name}.bias"] = (cols,)
    return shapes


def llama_shapes(size):
    """Linear weights are stored [out, in], as torch.nn.Linear does."""
    embed, mlp, vocab = size["embed"], size["mlp"], size["vocab"]
    kv = size["kv_heads"] * embed // size["heads"]
    shapes = {"model.embed_tokens.weight": (vocab, embed), "model.norm.weight": (embed,), "lm_head.weight": (vocab, embed)}
    for layer in range(size["layers"]):
        at = f"model.layers.{layer}"
        for name, rows, cols in [("q_proj", embed, embed), ("k_proj", kv, embed), ("v_proj", kv, embed),
                                 ("o_proj", embed, embed)]:
            shapes[f"{at}.self_attn.{name}.weight"] = (rows, cols)
        for name, rows, cols in [("gate_proj", mlp, embed), ("up_proj", mlp, embed), ("down_proj", embed, mlp)]:
            shapes[f"{at}.mlp.{name}.weight"] = (rows, cols)
        shapes[f"{at}.input_layernorm.weight"] = shapes[f"{at}.post_attention_layernorm.weight"] = (embed,)
    return shapes


def is_norm_weight(name):
    module = name.split(".")[-2]
    return name.endswith(".weight") and (module.startswith("ln_") or module.endswith("norm"))


def make_parameters(shapes):
    """The formula of the opening comment: computed in double, rounded to float32, used as float64."""
    parameters = {}
    for k, name in enumerate(sorted(shapes)):
        values = 0.08 * np.sin(0.7 * np.arange(math.prod(shapes[name])) + 1.3 * k) + (1.0 if is_norm_weight(name) else 0.0)
        rounded = values.astype(np.float32).astype(np.float64).reshape(shapes[name])
        parameters[name] = torch.tensor(rounded, requires_grad=True)
    return parameters


def make_tokens(size):
    b = torch.arange(size["batch"])[:, None]
    s = torch.arange(size["seq"])[None, :]
    return (7 * b + 3 * s + b * s) % size["vocab"], (5 * b + 2 * s + 1) % size["vocab"]


def attention(q, k, v):
    """q: [batch, heads, seq, head_dim]; k, v: [batch, kv_heads, seq, head_dim], each serving heads / kv_heads heads."""
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
    seq = q.shape[2]
    future = torch.triu(torch.ones(seq, seq, dtype=torch.bool), diagonal=1)
    scores = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[3])).masked_fill(future, -math.inf)
    return (scores.softmax(dim=-1) @ v).transpose(1, 2).flatten(2)


def split_heads(x, heads):
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def gpt2_logits(p, size, tokens):
    def norm(x, name):
        centred = x - x.mean(-1, keepdim=True)
        scale = (centred.square().mean(-1, keepdim=True) + size["norm_eps"]).rsqrt()
        return centred * scale * p[f"transformer.{name}.weight"] + p[f"transformer.{name}.bias"]

    def linear(x, name):
        return x @ p[f"transformer.{name}.weight"] + p[f"transformer.{name}.bias"]

    x = p["transformer.wte.weight"][tokens] + p["transformer.wpe.weight"][: tokens.shape[1]]
    for layer in range(size["layers"]):
        at = f"h.{layer}"
        q, k, v = linear(norm(x, f"{at}.ln_1"), f"{at}.attn.c_attn").split(size["embed"], dim=-1)
        x = x + linear(attention(*(split_heads(each, size["heads"]) for each in (q, k, v))), f"{at}.attn.c_proj")
        h = linear(norm(x, f"{at}.ln_2"), f"{at}.mlp.c_fc")
        h = 0.5 * h * (1 + torch.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h**3)))
        x = x + linear(h, f"{at}.mlp.c_proj")
    return norm(x, "ln_f") @ p["transformer.wte.weight"].T


def rotate(x, theta):
    """Rotary positions: element i is paired with element i + head_dim / 2 and turned by position * theta^(-2i / head_dim)."""
    seq, head_dim = x.shape[-2:]
    frequency = theta ** (-torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
    angle = torch.arange(seq, dtype=torch.float64)[:, None] * frequency
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * angle.cos() - second * angle.sin(), second * angle.cos() + first * angle.sin()], dim=-1)


def llama_logits(p, size, tokens):
    def norm(x, name):
        return x * (x.square().mean(-1, keepdim=True) + size["norm_eps"]).rsqrt() * p[f"{name}.weight"]

    def linear(x, name):
        return x @ p[f"{name}.weight"].T

    x = p["model.embed_tokens.weight"][tokens]
    for layer in range(size["layers"]):
        at = f"model.layers.{layer}"
        h = norm(x, f"{at}.input_layernorm")
        q = rotate(split_heads(linear(h, f"{at}.self_attn.q_proj"), size["heads"]), size["rope_theta"])
        k = rotate(split_heads(linear(h, f"{at}.self_attn.k_proj"), size["kv_heads"]), size["rope_theta"])
        v = split_heads(linear(h, f"{at}.self_attn.v_proj"), size["kv_heads"])
        x = x + linear(attention(q, k, v), f"{at}.self_attn.o_proj")
        h = norm(x, f"{at}.post_attention_layernorm")
        h = F.silu(linear(h, f"{at}.mlp.gate_proj")) * linear(h, f"{at}.mlp.up_proj")
        x = x + linear(h, f"{at}.mlp.down_proj")
    return linear(norm(x, "model.norm"), "lm_head")


FAMILIES = {"gpt2": (gpt2_shapes, gpt2_logits), "llama": (llama_shapes, llama_logits)}


def evaluate(family):
    """Logits, loss and {name: gradient}, all float64."""
    size = SIZES[family]
    shapes, logits_of = FAMILIES[family]
    parameters = make_parameters(shapes(size))
    tokens, targets = make_tokens(size)
    logits = logits_of(parameters, size, tokens)
    loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
    loss.backward()
    return logits.detach(), loss.item(), {name: p.grad for name, p in parameters.items()}


def rounded(value):
    return float(f"{value:.{NUM_DIGITS}g}")


def gradient_record(name, gradient):
    flat = gradient.flatten()
    samples = sorted({0, len(flat) // 3, 2 * len(flat) // 3, len(flat) - 1})
    return {"name": name, "shape": list(gradient.shape), "grad_norm": rounded(flat.norm().item()),
            "grad_sum": rounded(flat.sum().item()),
            "grad_samples": [{"index": i, "value": rounded(flat[i].item())} for i in samples]}


def record(family):
    logits, loss, gradients = evaluate(family)
    golden = {
        "family": family,
        "sizes": SIZES[family],
        "loss": rounded(loss),
        "logits": [{"batch": b, "position": s, "values": [rounded(v) for v in logits[b, s].tolist()]} for b, s in LOGITS_AT],
        "parameters": [gradient_record(name, gradients[name]) for name in sorted(gradients)],
    }
    GOLDEN.mkdir(parents=True, exist_ok=True)
    path = GOLDEN / f"{family}.json"
    path.write_text(json.dumps(golden, indent=1) + "\n", encoding="utf-8")
    print(f"{path}: {path.stat().st_size} bytes, {len(gradients)} parameters, loss {loss:.12f}")


def transformers_model(family):
    """transformers' own module with the same weights, in float64, every dropout off."""
    import transformers

    size = SIZES[family]
    if family == "gpt2":
        config = transformers.GPT2Config(
            n_layer=size["layers"], n_embd=size["embed"], n_head=size["heads"], n_inner=size["mlp"],
            vocab_size=size["vocab"], n_positions=size["seq"], activation_function="gelu_new",
            layer_norm_epsilon=size["norm_eps"], resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, bos_token_id=0, eos_token_id=0)
        model = transformers.GPT2LMHeadModel(config)
    else:
        config = transformers.LlamaConfig(
            num_hidden_layers=size["layers"], hidden_size=size["embed"], num_attention_heads=size["heads"],
            num_key_value_heads=size["kv_heads"], intermediate_size=size["mlp"], vocab_size=size["vocab"],
            max_position_embeddings=size["seq"], rms_norm_eps=size["norm_eps"], tie_word_embeddings=False,
            bos_token_id=0, eos_token_id=0)
        model = transformers.LlamaForCausalLM(config)
    parameters = make_parameters(FAMILIES[family][0](size))
    keys = model.load_state_dict({name: p.detach() for name, p in parameters.items()}, strict=False)
    if keys.unexpected_keys or set(keys.missing_keys) - {"lm_head.weight"}:
        raise SystemExit(f"{family}: missing {keys.missing_keys}, unexpected {keys.unexpected_keys}")
    return model.double().eval()


def compare(family):
    """Prints the largest differences from transformers; true if all are below MAX_DIFFERENCE."""
    logits, loss, gradients = evaluate(family)
    model = transformers_model(family)
    tokens, targets = make_tokens(SIZES[family])
    their_logits = model(tokens).logits
    their_loss = F.cross_entropy(their_logits.flatten(0, 1), targets.flatten())
    their_loss.backward()
    theirs = dict(model.named_parameters())
    if sorted(theirs) != sorted(gradients):
        raise SystemExit(f"{family}: other parameter names: {sorted(set(theirs) ^ set(gradients))}")
    worst_name = max(gradients, key=lambda name: (gradients[name] - theirs[name].grad).abs().max())
    differences = {"logits": (logits - their_logits).abs().max().item(), "loss": abs(loss - their_loss.item()),
                   f"gradient of {worst_name}": (gradients[worst_name] - theirs[worst_name].grad).abs().max().item()}
    for what, difference in differences.items():
        print(f"{family}: largest difference of {what}: {difference:.3g}")
    return all(difference < MAX_DIFFERENCE[family] for difference in differences.values())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against-transformers", action="store_true")
    if parser.parse_args().against_transformers:
        return 0 if all([compare(family) for family in FAMILIES]) else 1
    for family in FAMILIES:
        record(family)
    return 0


if __name__ == "__main__":
    sys.exit(main())
