"""Writing all heads as a folder that transformers loads, with a decoder that uses them.

    DEST/                              head 1 as a Hugging Face Llama (mtp/formats/hugging_face.py)
    DEST/heads.json, heads.safetensors the other heads
    DEST/custom_generate/generate.py   mtp/formats/self_speculative.py: greedy decoding with drafts

`model.generate(ids, custom_generate=DEST, trust_remote_code=True)` decodes with them.
"""

import shutil
from pathlib import Path

from mtp.checkpoint import save_tensors
from mtp.data.tokenizer import Tokenizer
from mtp.errors import BadInput
from mtp.formats.hugging_face import write_hf
from mtp.formats.weights import PARTS, write_json
from mtp.head_types import HEADS, short_name
from mtp.model.heads import parent
from mtp.model.model import MultiTokenTransformer

DECODER = Path(__file__).with_name("self_speculative.py")
MODULES = ("layer", "linear", "identity")  # that generate.py knows


def write_hf_heads(folder: Path, model: MultiTokenTransformer, tokenizer: Tokenizer | None) -> None:
    """Write the model in float32 to an existing folder. Raises BadInput for heads that the decoder
    in the folder cannot use."""
    c, row = model.config, HEADS[model.config.head]
    if c.head not in _fitting(c.n):
        raise BadInput(
            f"format hf-heads cannot hold {short_name(c.head)} heads; choose a model with one of "
            f"{', '.join(_fitting(c.n))} heads, or format all"
        )
    write_hf(folder, model, tokenizer)
    told = {"module": row.module, "parents": [parent(c, i) for i in range(2, c.n + 1)]}
    write_json(folder / "heads.json", told)
    weights = {}
    for name, weight in model.state_dict().items():
        group, _, rest = name.partition(".")
        index, _, part = rest.partition(".")
        if group not in ("heads", "unembeddings") or index == "0":
            continue
        if row.module == "layer" and group == "heads":
            ours = part.removesuffix(".weight")
            part = f"{PARTS[ours]}.weight"
        elif group == "heads":
            part = "weight"
        weights[f"{group}.{int(index) + 1}.{part}"] = weight
    save_tensors(weights, folder / "heads.safetensors", {"format": "pt"})
    (folder / "custom_generate").mkdir()
    shutil.copyfile(DECODER, folder / "custom_generate" / "generate.py")


def _fitting(n: int) -> list[str]:
    """The head types that the format can hold."""
    return [
        name
        for name, row in HEADS.built_in.items()
        if row.module in MODULES and row.first_is_alone(n)
    ]
