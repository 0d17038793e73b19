"""Chat templates: kept with a tokenizer, rendered as transformers does, and asked with."""

import dataclasses
import json
from pathlib import Path

import pytest

from evals.benchmarks import humaneval
from evals.harness.chat import message, rendered
from evals.harness.problems import Dataset, Problem
from evals.harness.prompts import counts, prompts
from mtp.data.tokenizer import BPE, ByteTokenizer, load
from mtp.errors import BadInput

TEMPLATE = """{{ bos_token }}{% for m in messages %}
    {% if m['role'] not in ('user', 'assistant') %}{{ raise_exception('no such role') }}{% endif %}
<|start|>{{ m['role'] }}
{{ m['content'] | trim }}<|stop|>
{% endfor %}
{% if add_generation_prompt %}<|start|>assistant
{% endif %}"""
NAMES = {"bos_token": "<s>", "eos_token": "<|stop|>"}
ASKED = "<s><|start|>user\nAdd {1 + 1}.<|stop|>\n<|start|>assistant\n"


@pytest.fixture(scope="module")
def inner() -> BPE:
    """A BPE whose special tokens have a chat model's names."""
    made = BPE.train(["a text to learn from, and another one"], 280).inner
    made.add_special_tokens(["<s>", "<|start|>", "<|stop|>"])
    return BPE(made, "<s>", "<|stop|>")


def given(inner: BPE, folder: Path, config: object, jinja: str = "") -> BPE:
    """The tokenizer of a folder as others write it."""
    inner.inner.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    if jinja:
        (folder / "chat_template.jinja").write_text(jinja)
    found = load(folder)
    assert isinstance(found, BPE)
    return found


def test_a_template_is_found_and_kept(inner: BPE, tmp_path: Path) -> None:
    several = [{"name": "tool_use", "template": "x"}, {"name": "default", "template": TEMPLATE}]
    for number, (config, jinja, wanted) in enumerate(
        (
            ({"chat_template": TEMPLATE}, "", TEMPLATE),
            ({"chat_template": several}, "", TEMPLATE),
            ({"chat_template": "old"}, TEMPLATE, TEMPLATE),
            ({"chat_template": several[:1]}, "", ""),
            ({}, "", ""),
        )
    ):
        (folder := tmp_path / str(number)).mkdir()
        found = given(inner, folder, NAMES | config, jinja)
        assert found.chat == wanted
        (kept := folder / "kept").mkdir()
        found.save(kept)
        again = load(kept)
        assert isinstance(again, BPE) and (again.chat, again.names) == (wanted, NAMES)


def test_a_message_is_rendered_with_its_special_tokens(inner: BPE) -> None:
    text = BPE(inner.inner, "<s>", "<|stop|>", TEMPLATE)
    assert rendered(TEMPLATE, NAMES, "Add {1 + 1}.\n") == ASKED
    tokens = message(text, "Add {1 + 1}.\n")
    ids = text.inner.get_vocab()
    assert tokens[:2] == [ids["<s>"], ids["<|start|>"]] and tokens.count(ids["<|start|>"]) == 2
    assert tokens.count(ids["<|stop|>"]) == 1 and tokens.count(text.bos) == 1
    assert text.decode(tokens) == "user\nAdd {1 + 1}.\nassistant\n"
    assert ids["<|start|>"] not in text.encode(ASKED)  # in any other text they are text


def test_transformers_renders_the_same(inner: BPE) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is missing")
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_object=inner.inner, **NAMES)
    theirs.chat_template = TEMPLATE
    talk = [{"role": "user", "content": " a  text "}]
    wanted = theirs.apply_chat_template(talk, tokenize=False, add_generation_prompt=True)
    assert rendered(TEMPLATE, NAMES, " a  text ") == wanted


def test_a_template_that_asks_for_the_day_gets_the_same_each_day() -> None:
    template = "{{ strftime_now('%d %b %Y') }} {{ ['<', 'é'] | tojson }}"
    assert rendered(template, NAMES, "") == '26 Jul 2024 ["<", "é"]'


def test_a_template_that_fails_is_reported() -> None:
    for template, reason in (
        ("{{ raise_exception('no system message') }}", "no system message"),
        ("{% if %}", "Expected an expression"),
        ("{{ messages.append(1) }}", "unsafe"),
        ("{{ messages[0].content.__class__.mro() }}", "unsafe"),
        ("{{ 1 // 0 }}", "zero"),
    ):
        with pytest.raises(BadInput, match=f"^the model's chat template fails: .*{reason}"):
            rendered(template, NAMES, "")


def test_a_chat_protocol_asks_by_the_template_of_models_that_have_one(inner: BPE) -> None:
    data = Dataset((Problem("p", {"stripped": "def f(x):"}, {}),), (), "data")
    with_one = BPE(inner.inner, "<s>", "<|stop|>", TEMPLATE)
    chat, plain = humaneval.INSTRUCT, dataclasses.replace(humaneval.INSTRUCT, chat=False)
    for text, protocol, templated in (
        (with_one, chat, True),
        (inner, chat, False),
        (ByteTokenizer(), chat, False),
        (with_one, plain, False),
    ):
        made = prompts(data, protocol, text, 4096)
        prompt = made["p"]
        assert prompt and prompt.chat == templated
        begun = text.decode(prompt.tokens)
        assert prompt.text.strip() in begun and begun.endswith("assistant\n") == templated
        assert prompt.tokens.count(text.bos) == 1
        row = ("chat template", float(templated))
        assert (row in counts(made, protocol)) == protocol.chat
    # the template's own tokens count as well
    whole = prompts(data, chat, with_one, 4096)["p"]
    assert whole
    room = len(message(with_one, whole.text))
    assert prompts(data, chat, with_one, room + chat.max_new)["p"]
    assert not prompts(data, chat, with_one, room + chat.max_new - 1)["p"]
