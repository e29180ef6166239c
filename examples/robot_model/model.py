"""DeepSeek-V2 (multi-head latent attention, mixture of experts) in plain PyTorch, small enough to train in minutes.

The layout of the exported checkpoint is that of transformers' `DeepseekV2ForCausalLM`. Two things differ inside:
sequences are packed several to a row, and all experts are computed for all tokens (one wide matrix product; the
router's weight is zero for the experts not chosen), which is faster than dispatch at this size.
"""

import math

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

CONFIG = {
    "architectures": ["DeepseekV2ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 0,
    "dtype": "bfloat16",
    "eos_token_id": 1,
    "first_k_dense_replace": 1,
    "head_dim": 32,
    "hidden_act": "silu",
    "hidden_size": 256,
    "initializer_range": 0.02,
    "intermediate_size": 512,
    "kv_lora_rank": 128,
    "max_position_embeddings": 1024,
    "mlp_bias": False,
    "model_type": "deepseek_v2",
    "moe_intermediate_size": 96,
    "n_group": 1,
    "n_routed_experts": 8,
    "n_shared_experts": 1,
    "norm_topk_prob": False,
    "num_attention_heads": 4,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 5,
    "num_key_value_heads": 4,
    "pad_token_id": 2,
    "pretraining_tp": 1,
    "q_lora_rank": None,
    "qk_head_dim": 64,
    "qk_nope_head_dim": 32,
    "qk_rope_head_dim": 32,
    "rms_norm_eps": 1e-06,
    "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
    "routed_scaling_factor": 2.0,
    "tie_word_embeddings": False,
    "topk_group": 1,
    "topk_method": "greedy",
    "use_cache": True,
    "v_head_dim": 64,
    "vocab_size": 1280,
}


class Config:
    def __init__(self, **values):
        self.__dict__.update(values)


def linear(inputs, outputs, scale=1.0):
    layer = nn.Linear(inputs, outputs, bias=False)
    nn.init.normal_(layer.weight, std=0.7 * scale / math.sqrt(inputs))
    return layer


class RMSNorm(nn.Module):
    def __init__(self, size, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x):
        y = x.float()
        return self.weight * (y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + self.eps)).to(x.dtype)


def rotate(x, cos, sin):
    """Rotary embedding over interleaved pairs: x [batch, heads, length, dim], cos and sin [batch, 1, length, dim / 2]."""
    a, b = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2).to(x.dtype)


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        self.q_proj = linear(c.hidden_size, c.num_attention_heads * c.qk_head_dim)
        self.kv_a_proj_with_mqa = linear(c.hidden_size, c.kv_lora_rank + c.qk_rope_head_dim)
        self.kv_a_layernorm = RMSNorm(c.kv_lora_rank, c.rms_norm_eps)
        self.kv_b_proj = linear(c.kv_lora_rank, c.num_attention_heads * (c.qk_nope_head_dim + c.v_head_dim))
        self.o_proj = linear(c.num_attention_heads * c.v_head_dim, c.hidden_size, 1 / math.sqrt(2 * c.num_hidden_layers))

    def forward(self, x, cos, sin, mask):
        c, heads = self.c, self.c.num_attention_heads
        q = self.q_proj(x).unflatten(-1, (heads, -1)).transpose(1, 2)
        q_nope, q_rope = q.split([c.qk_nope_head_dim, c.qk_rope_head_dim], -1)
        latent, k_rope = self.kv_a_proj_with_mqa(x).split([c.kv_lora_rank, c.qk_rope_head_dim], -1)
        kv = self.kv_b_proj(self.kv_a_layernorm(latent)).unflatten(-1, (heads, -1)).transpose(1, 2)
        k_nope, v = kv.split([c.qk_nope_head_dim, c.v_head_dim], -1)
        k_rope = rotate(k_rope.unsqueeze(1), cos, sin).expand(-1, heads, -1, -1)
        q = torch.cat((q_nope, rotate(q_rope, cos, sin)), -1)
        k = torch.cat((k_nope, k_rope), -1)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.o_proj(y.transpose(1, 2).flatten(-2))


class MLP(nn.Module):
    def __init__(self, c, size):
        super().__init__()
        self.gate_proj = linear(c.hidden_size, size)
        self.up_proj = linear(c.hidden_size, size)
        self.down_proj = linear(size, c.hidden_size, 1 / math.sqrt(2 * c.num_hidden_layers))

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class MoE(nn.Module):
    """Routed experts, side by side in three wide matrices, and shared ones."""

    def __init__(self, c):
        super().__init__()
        self.c = c
        self.gate = linear(c.hidden_size, c.n_routed_experts)
        self.experts = MLP(c, c.n_routed_experts * c.moe_intermediate_size)
        nn.init.normal_(self.experts.down_proj.weight, std=0.7 / math.sqrt(c.moe_intermediate_size * 2 * c.num_hidden_layers))
        self.shared_experts = MLP(c, c.n_shared_experts * c.moe_intermediate_size)

    def forward(self, x):
        c = self.c
        with torch.autocast(x.device.type, enabled=False):
            scores = F.linear(x.float(), self.gate.weight.float()).softmax(-1)
        chosen = torch.zeros_like(scores).scatter_(-1, scores.topk(c.num_experts_per_tok, -1).indices, 1.0)
        weights = scores * chosen * c.routed_scaling_factor
        hidden = F.silu(self.experts.gate_proj(x)) * self.experts.up_proj(x)
        hidden = hidden.unflatten(-1, (c.n_routed_experts, -1)) * weights.unsqueeze(-1).to(hidden.dtype)
        # Balance: the share of tokens sent to an expert times its mean score, 1 where all are used alike.
        balance = c.n_routed_experts * (chosen.flatten(0, 1).mean(0) / c.num_experts_per_tok * scores.flatten(0, 1).mean(0)).sum()
        return self.experts.down_proj(hidden.flatten(-2)) + self.shared_experts(x), balance


class Block(nn.Module):
    def __init__(self, c, index):
        super().__init__()
        self.input_layernorm = RMSNorm(c.hidden_size, c.rms_norm_eps)
        self.self_attn = Attention(c)
        self.post_attention_layernorm = RMSNorm(c.hidden_size, c.rms_norm_eps)
        self.mlp = MLP(c, c.intermediate_size) if index < c.first_k_dense_replace else MoE(c)

    def forward(self, x, cos, sin, mask):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, mask)
        y = self.mlp(self.post_attention_layernorm(x))
        y, balance = y if isinstance(y, tuple) else (y, 0.0)
        return x + y, balance


class Model(nn.Module):
    def __init__(self, config=None):
        super().__init__()
        c = self.c = Config(**(config or CONFIG))
        self.embed_tokens = nn.Embedding(c.vocab_size, c.hidden_size)
        nn.init.normal_(self.embed_tokens.weight, std=0.02)
        self.layers = nn.ModuleList(Block(c, i) for i in range(c.num_hidden_layers))
        self.norm = RMSNorm(c.hidden_size, c.rms_norm_eps)
        self.lm_head = linear(c.hidden_size, c.vocab_size)
        frequencies = c.rope_parameters["rope_theta"] ** (-torch.arange(0, c.qk_rope_head_dim, 2).float() / c.qk_rope_head_dim)
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, tokens):
        """tokens [batch, length], each row one or more sequences that start with the bos token -> (logits, balance loss)."""
        place = torch.arange(tokens.shape[1], device=tokens.device)
        starts = tokens == self.c.bos_token_id
        sequence = starts.cumsum(1)
        position = place - (place * starts).cummax(1).values
        mask = (sequence[:, :, None] == sequence[:, None, :]) & (place[:, None] >= place[None, :])
        angle = (position[:, :, None].float() * self.frequencies)[:, None]
        cos, sin = angle.cos(), angle.sin()
        x = self.embed_tokens(tokens)
        balance = 0.0
        for layer in self.layers:
            x, b = layer(x, cos, sin, mask[:, None])
            balance = balance + b
        return self.lm_head(self.norm(x)), balance

    def export(self):
        """The weights in bfloat16 under the names of `DeepseekV2ForCausalLM`."""
        size = self.c.moe_intermediate_size
        weights = {}
        for name, tensor in self.state_dict().items():
            tensor = tensor.detach().to("cpu", torch.bfloat16)
            if ".mlp.experts." in name:
                layer, matrix = name.split(".experts.")
                parts = tensor.split(size, dim=1 if matrix.startswith("down") else 0)
                for i, part in enumerate(parts):
                    weights[f"model.{layer}.experts.{i}.{matrix}"] = part.contiguous()
            else:
                weights[name if name.startswith("lm_head") else "model." + name] = tensor.contiguous()
        return weights


def load(folder):
    """A checkpoint back into `Model`."""
    weights = load_file(folder / "model.safetensors")
    state = {}
    for name in Model().state_dict():
        source = name if name.startswith("lm_head") else "model." + name
        if ".mlp.experts." in name:
            layer, matrix = source.split(".experts.")
            parts = [weights[f"{layer}.experts.{i}.{matrix}"] for i in range(CONFIG["n_routed_experts"])]
            state[name] = torch.cat(parts, dim=1 if matrix.startswith("down") else 0)
        else:
            state[name] = weights[source]
    model = Model()
    model.load_state_dict(state)
    return model
