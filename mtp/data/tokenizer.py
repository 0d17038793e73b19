"""Tokenizers behind one interface: bytes, a byte-level BPE, trained here or by others, and Llama's
SentencePiece.

No text encodes to a special id: the code that builds sequences of ids adds bos and eos.
"""

import dataclasses
import importlib
import json
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import tokenizers

from mtp.config import TrainConfig
from mtp.errors import BadInput

BPE_MIN_VOCAB = 258  # every byte, bos and eos
NAMES = ("bytes", "bpe", "llama:PATH", "run:FOLDER", "file:PATH", "file:PATH#EOS")


class Tokenizer(Protocol):
    """Text to token ids and back."""

    name: str
    vocab_size: int
    bos: int
    eos: int

    def encode(self, text: str) -> list[int]:
        """Token ids, without special ones."""
        ...

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        """`encode` for many texts at once, on all cores if that is faster."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids. Special ids are dropped; incomplete characters become U+FFFD."""
        ...

    def save(self, folder: Path) -> None:
        """Write the files that `load(folder)` reads."""
        ...


class ByteTokenizer:
    """One id per UTF-8 byte."""

    name = "bytes"
    vocab_size = 258
    bos = 256
    eos = 257

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        return [self.encode(text) for text in texts]

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(i for i in ids if i < 256).decode(errors="replace")

    def save(self, folder: Path) -> None:
        (folder / "tokenizer.json").write_text(json.dumps({"model": {"type": "bytes"}}))


class BPE:
    """Byte-level BPE that splits numbers into digits, in `tokenizers`' format, tokenizer.json."""

    BOS, EOS = "<|bos|>", "<|eos|>"

    def __init__(
        self, inner: tokenizers.Tokenizer, bos: str = BOS, eos: str = EOS, chat: str = ""
    ) -> None:
        """`bos` and `eos` are the names of the special tokens, which differ in other programs'
        files. chat: the template that a chat model's messages are put into, in Jinja."""
        inner.encode_special_tokens = True  # "<|eos|>" written in a text is only text
        inner.no_truncation()  # a file may ask for truncation and padding of batches
        inner.no_padding()
        self.names = {"bos_token": bos, "eos_token": eos}
        self.inner, self.chat = inner, chat
        self.vocab_size = inner.get_vocab_size()
        self.name = f"bpe-{self.vocab_size}"
        self.bos, self.eos = self._special(bos), self._special(eos)

    @staticmethod
    def check(vocab: int) -> None:
        """Raise BadInput if the vocabulary is too small for a BPE."""
        if vocab < BPE_MIN_VOCAB:
            raise BadInput(f"vocab is {vocab}; a BPE needs at least {BPE_MIN_VOCAB}")

    @classmethod
    def train(cls, texts: Iterable[str], vocab: int) -> "BPE":
        """Learn `vocab` tokens, with bos and eos, from `texts`; equal texts give equal tokens.

        If the texts are too small for that many merges, unused ids fill up the vocabulary, so that
        vocab_size is `vocab`. Raises BadInput as `check` does.
        """
        cls.check(vocab)
        inner = tokenizers.Tokenizer(tokenizers.models.BPE())
        inner.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
            [
                tokenizers.pre_tokenizers.Digits(individual_digits=True),
                tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False),
            ]
        )
        inner.decoder = tokenizers.decoders.ByteLevel()
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=vocab,
            special_tokens=[cls.BOS, cls.EOS],
            initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        inner.train_from_iterator(texts, trainer)
        missing = vocab - inner.get_vocab_size()
        inner.add_special_tokens([f"<|unused{i}|>" for i in range(missing)])
        return cls(inner)

    def encode(self, text: str) -> list[int]:
        return self.inner.encode(text, add_special_tokens=False).ids

    def encode_marked(self, text: str) -> list[int]:
        """`encode`, where the name of a special token stands for that token."""
        self.inner.encode_special_tokens = False
        try:
            return self.encode(text)
        finally:
            self.inner.encode_special_tokens = True

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        encoded = self.inner.encode_batch_fast(texts, add_special_tokens=False)
        return [encoding.ids for encoding in encoded]

    def decode(self, ids: Sequence[int]) -> str:
        return self.inner.decode(list(ids), skip_special_tokens=True)

    def save(self, folder: Path) -> None:
        self.inner.save(str(folder / "tokenizer.json"))
        values = self.names | ({"chat_template": self.chat} if self.chat else {})
        if values != {"bos_token": self.BOS, "eos_token": self.EOS}:
            (folder / "tokenizer_config.json").write_text(json.dumps(values))

    def _special(self, token: str) -> int:
        found = self.inner.token_to_id(token)
        if found is None:
            raise BadInput(
                f"tokenizer.json has no token {token}; name the tokens at a document's ends as "
                "bos_token and eos_token in a tokenizer_config.json beside it"
            )
        return found


class LlamaTokenizer:
    """A SentencePiece model file, such as Llama 2's tokenizer.model."""

    name = "llama"

    def __init__(self, file: Path) -> None:
        """Raises BadInput if the package or the file is missing, or has no bos or eos."""
        if not file.is_file():
            raise BadInput(f"tokenizer llama: no file {file}; give Llama's tokenizer.model")
        try:
            sentencepiece = importlib.import_module("sentencepiece")
        except ImportError:
            raise BadInput(
                "tokenizer llama needs sentencepiece; install it: "
                ".venv/bin/pip install -e '.[llama]'"
            ) from None
        try:
            self.inner = sentencepiece.SentencePieceProcessor(model_file=str(file))
        except (OSError, RuntimeError):
            raise BadInput(f"tokenizer llama: {file} is not a SentencePiece model") from None
        self.file = file
        self.vocab_size: int = self.inner.vocab_size()
        self.bos: int = self.inner.bos_id()
        self.eos: int = self.inner.eos_id()
        if min(self.bos, self.eos) < 0:
            raise BadInput(f"tokenizer llama: {file} has no bos or no eos token")

    def encode(self, text: str) -> list[int]:
        return self.inner.encode(text)

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        return self.inner.encode(texts, num_threads=os.cpu_count() or 1)

    def decode(self, ids: Sequence[int]) -> str:
        return self.inner.decode([int(i) for i in ids if i not in (self.bos, self.eos)])

    def save(self, folder: Path) -> None:
        shutil.copyfile(self.file, folder / "tokenizer.model")


def from_name(name: str) -> Tokenizer | None:
    """The tokenizer with a config's name for it, one of NAMES. None for bpe, which is trained on a
    corpus. Raises BadInput for any other name."""
    kind, _, where = name.partition(":")
    if name == "bytes":
        return ByteTokenizer()
    if name == "bpe":
        return None
    if kind == "llama" and where:
        return LlamaTokenizer(Path(where))
    if kind == "run" and where:
        return load(Path(where))
    if kind == "file" and where:
        path, _, eos = where.partition("#")
        return load_file(Path(path).expanduser(), eos)
    raise BadInput(f"unknown tokenizer {name!r}; choose one of: {', '.join(NAMES)}")


def follow_tokenizer(config: TrainConfig, assignments: Iterable[str]) -> TrainConfig:
    """The config with model.vocab at its tokenizer's size, if the "field=value" assignments choose
    the tokenizer or its size and leave model.vocab open. Raises BadInput as `from_name` does."""
    assigned = {text.partition("=")[0].strip() for text in assignments}
    if "model.vocab" in assigned or not assigned & {"data.tokenizer", "data.vocab"}:
        return config
    tokenizer = from_name(config.data.tokenizer)
    vocab = tokenizer.vocab_size if tokenizer else config.data.vocab
    return dataclasses.replace(config, model=dataclasses.replace(config.model, vocab=vocab))


def check_vocab(config: TrainConfig, name: str, size: int) -> None:
    """Raise BadInput if the model has fewer ids than the tokenizer of this name and size."""
    if config.model.vocab < size:
        raise BadInput(
            f"model.vocab {config.model.vocab} is smaller than the {name} tokenizer's {size}; set "
            "model.vocab to at least that"
        )


def load(folder: Path) -> Tokenizer:
    """The tokenizer in `folder`, saved by this project or as Hugging Face's tokenizer.json with the
    names of bos and eos in tokenizer_config.json. Raises BadInput if there is none or it cannot be
    read."""
    if (folder / "tokenizer.model").exists():
        return LlamaTokenizer(folder / "tokenizer.model")
    if not (folder / "tokenizer.json").exists():
        raise BadInput(
            f"no tokenizer.json or tokenizer.model in {folder}; training saves it in a run's folder"
        )
    return _read(folder / "tokenizer.json")


def load_file(path: Path, eos: str = "") -> Tokenizer:
    """The tokenizer in a tokenizer.json, or in a folder that has one, as Hugging Face's programs
    write it. `eos` names the token between documents, which is then bos as well; without it,
    `_special_names` finds both. Raises BadInput if the file is missing or not a tokenizer."""
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        raise BadInput(f"tokenizer file:{path}: no such file, or a folder without tokenizer.json")
    return _read(file, [eos, eos] if eos else None)


def _read(file: Path, names: list[str] | None = None) -> Tokenizer:
    try:
        text = file.read_text()
        if json.loads(text)["model"]["type"] == "bytes":
            return ByteTokenizer()
        inner = tokenizers.Tokenizer.from_str(text)
        return BPE(inner, *(names or _special_names(file, inner)), chat=_chat_template(file))
    except BadInput:
        raise
    except Exception as error:  # `tokenizers` raises bare Exception on a bad file
        raise BadInput(f"{file} is not a tokenizer: {error}") from None


def load_if_any(folder: Path) -> Tokenizer | None:
    """The tokenizer in a folder, or None. Raises BadInput if there is one that cannot be read."""
    files = ("tokenizer.json", "tokenizer.model")
    return load(folder) if any((folder / name).exists() for name in files) else None


def names_a_path(name: str) -> bool:
    """Whether a config's name for a tokenizer is a path, where it may be gone one day."""
    return name.startswith(("run:", "llama:", "file:"))


def saved_name(tokenizer: Tokenizer, folder: Path) -> str:
    """A config's name for the tokenizer that is saved in `folder`."""
    if isinstance(tokenizer, LlamaTokenizer):
        return f"llama:{folder / 'tokenizer.model'}"
    return f"run:{folder}" if isinstance(tokenizer, BPE) else "bytes"


def same_tokenizer(a: Tokenizer, b: Tokenizer) -> bool:
    """Whether both give every text the same ids."""
    if isinstance(a, BPE) and isinstance(b, BPE):
        return (a.inner.to_str(), a.names) == (b.inner.to_str(), b.names)
    if isinstance(a, LlamaTokenizer) and isinstance(b, LlamaTokenizer):
        return a.file.read_bytes() == b.file.read_bytes()
    return isinstance(a, ByteTokenizer) and isinstance(b, ByteTokenizer)


# Names of bos and eos that are looked for where no tokenizer_config.json names them: ours, Llama
# 3's, GPT-2's, whose one token ends a document and begins the next, and Llama 2's.
KNOWN_NAMES = (
    (BPE.BOS, BPE.EOS),
    ("<|begin_of_text|>", "<|end_of_text|>"),
    ("<|endoftext|>", "<|endoftext|>"),
    ("<s>", "</s>"),
)


def _special_names(file: Path, inner: tokenizers.Tokenizer) -> Sequence[str]:
    """The names of bos and eos: as in the tokenizer_config.json beside `file`, where a missing bos
    is the eos, or else the first of KNOWN_NAMES that the tokenizer has."""
    config = file.with_name("tokenizer_config.json")
    values = json.loads(config.read_text()) if config.exists() else {}
    bos, eos = (values.get(key) for key in ("bos_token", "eos_token"))
    bos, eos = (each["content"] if isinstance(each, dict) else each for each in (bos, eos))
    if isinstance(eos, str):
        return bos if isinstance(bos, str) else eos, eos
    for names in KNOWN_NAMES:
        if all(inner.token_to_id(name) is not None for name in names):
            return names
    raise BadInput(
        f"{file} has none of the usual tokens at the ends of a document; name them as bos_token "
        "and eos_token in a tokenizer_config.json beside it"
    )


def _chat_template(file: Path) -> str:
    """The template for messages beside a tokenizer.json: in chat_template.jinja, or else in
    tokenizer_config.json, the one called default where there are several. Empty without one."""
    if (own := file.with_name("chat_template.jinja")).exists():
        return own.read_text()
    config = file.with_name("tokenizer_config.json")
    found = json.loads(config.read_text()).get("chat_template") if config.exists() else None
    if isinstance(found, list):
        found = {each["name"]: each["template"] for each in found}.get("default")
    return found if isinstance(found, str) else ""
