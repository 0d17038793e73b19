"""Greedy self-speculative decoding for transformers: this folder's heads draft, its model verifies.

    model = AutoModelForCausalLM.from_pretrained(FOLDER)
    model.generate(ids, custom_generate=FOLDER, trust_remote_code=True, max_new_tokens=100)

`mtp.convert export RUN FOLDER --format hf-heads` copies it to FOLDER/custom_generate/generate.py.
The tokens are those of `model.generate(ids, do_sample=False)`. Heads 2..n propose the tokens
after the next one; one pass of the model verifies them all (Gloeckle et al. 2024, section 3.2).

heads.json says which latent each head reads (0: the input of the last layer if heads are layers,
else that of the final norm; 1: what head 1 reads its logits from) and what it does with it;
heads.safetensors has the heads' weights.
"""

import copy
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers.cache_utils import DynamicCache  # pyright: ignore[reportMissingImports]
from transformers.utils.hub import cached_file  # pyright: ignore[reportMissingImports]


class Heads:
    """Heads 2..n: the latents of new certain tokens in, the drafts after the last of them out."""

    def __init__(self, model: Any) -> None:
        place = model.config._name_or_path
        files = [cached_file(place, name) for name in ("heads.json", "heads.safetensors")]
        told, weights = json.loads(Path(str(files[0])).read_text()), load_file(str(files[1]))
        self.model, self.parents, self.kind = model, told["parents"], told["module"]
        like = model.lm_head.weight
        weights = {name: w.to(like) for name, w in weights.items()}
        self.modules, self.unembeddings = {}, {}
        for i in range(2, 2 + len(self.parents)):
            own = f"heads.{i}."
            mine = {n.removeprefix(own): w for n, w in weights.items() if n.startswith(own)}
            if self.kind == "layer":
                layer = copy.deepcopy(model.model.layers[-1])
                layer.load_state_dict(mine)
                layer.self_attn.layer_idx = i - 2  # in a cache of their own
                self.modules[i] = layer
            else:
                self.modules[i] = mine.get("weight")
            self.unembeddings[i] = weights.get(f"unembeddings.{i}.weight", like)

    def draft(self, z: Tensor, h: Tensor, past: int, cache: Any, k: int) -> list[int]:
        """The drafts of heads 2..k after the last of T new certain tokens, whose latents are z and
        h (1, T, D); `past` tokens were there before."""
        found, positions = {0: z, 1: h}, torch.arange(past, past + z.shape[1], device=z.device)
        for i in range(2, k + 1):
            x, module = found[self.parents[i - 2]], self.modules[i]
            if self.kind == "layer":
                seen = torch.arange(past + z.shape[1], device=z.device)
                hidden = torch.zeros(len(positions), len(seen), dtype=z.dtype, device=z.device)
                hidden[seen > positions[:, None]] = torch.finfo(z.dtype).min
                found[i] = module(
                    x,
                    attention_mask=hidden[None, None],
                    position_ids=positions[None],
                    past_key_values=cache,
                    use_cache=True,
                    position_embeddings=self.model.model.rotary_emb(x, positions[None]),
                )
            else:
                found[i] = x if module is None else x @ module.T
        drafts = []
        for i in range(2, k + 1):
            logits = self.model.model.norm(found[i][:, -1]) @ self.unembeddings[i].T
            drafts.append(int(logits.argmax(-1)))
        return drafts


@torch.inference_mode()
def one_row(model: Any, heads: Heads, ids: Tensor, new: int, stop: set[int], k: int) -> list[int]:
    """Up to `new` tokens that follow ids (1, T)."""
    seen: dict[str, Tensor] = {}
    source = model.model.layers[-1] if heads.kind == "layer" else model.model.norm
    hooks = [
        module.register_forward_pre_hook(
            lambda _, args, kwargs, name=name: seen.update(
                {name: args[0] if args else kwargs["hidden_states"]}
            ),
            with_kwargs=True,
        )
        for name, module in (("z", source), ("h", model.model.norm))
    ]
    cache, own, found = DynamicCache(), DynamicCache(), list[int]()
    block, past = ids, 0
    try:
        while True:
            state = model.model(block, past_key_values=cache, use_cache=True).last_hidden_state
            drafted = len(block[0]) - 1 if past else 0
            answers = model.lm_head(state[:, -1 - drafted :])[0].argmax(-1).tolist()
            z, h = seen["z"], seen["h"]  # before the heads use the norm
            right = 0
            while right < drafted and int(block[0, 1 + right]) == answers[right]:
                right += 1
            if right < drafted:
                cache.crop(right - drafted)
            found += answers[: right + 1]
            ends = [found.index(token) for token in stop if token in found]
            if ends or len(found) >= new:
                return found[: min([new, *(end + 1 for end in ends)])]
            certain = block.shape[1] - drafted + right  # of the block
            drafts = heads.draft(z[:, :certain], h[:, :certain], past, own, k)
            past += certain
            block = torch.tensor([[found[-1], *drafts]], device=ids.device)
    finally:
        for hook in hooks:
            hook.remove()


def generate(
    model: Any,
    inputs: Tensor | None = None,
    input_ids: Tensor | None = None,
    generation_config: Any = None,
    max_new_tokens: int | None = None,
    eos_token_id: int | list[int] | None = None,
    do_sample: bool = False,
    k: int | None = None,
    **_: Any,
) -> Tensor:
    """ids (B, T) -> ids (B, T + new), rows that end early filled with eos. Prompts have no padding.
    k: heads that are used, head 1 included; None: all."""
    ids = inputs if inputs is not None else input_ids
    config = generation_config or model.generation_config
    if ids is None:
        raise ValueError("there are no input_ids")
    if do_sample or getattr(config, "do_sample", False):
        raise ValueError("custom_generate of this folder is greedy; use do_sample=False")
    new = max_new_tokens or getattr(config, "max_new_tokens", None) or 20
    eos = config.eos_token_id if eos_token_id is None else eos_token_id
    stop = set() if eos is None else {eos} if isinstance(eos, int) else set(eos)
    heads = Heads(model)
    n = 1 + len(heads.parents)
    k = n if k is None else k
    if not 1 <= k <= n:
        raise ValueError(f"k is {k}; it must be from 1 to the folder's {n} heads")
    rows = [one_row(model, heads, ids[b : b + 1], new, stop, k) for b in range(len(ids))]
    width, fill = max(map(len, rows)), next(iter(stop), 0)
    made = [row + [fill] * (width - len(row)) for row in rows]
    return torch.cat([ids, torch.tensor(made, device=ids.device)], 1)
