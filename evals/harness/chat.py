"""A prompt as a user's message to a chat model, in the template that came with its tokenizer.

    <|im_start|>user
    Complete this Python function. ...<|im_end|>
    <|im_start|>assistant
                                            <- the answer

Templates are Jinja and come from other people, so they run in Jinja's own sandbox. They get what
they get in transformers: messages, add_generation_prompt, bos_token, eos_token, raise_exception and
strftime_now, which here tells the same day every day, so that prompts stay the same. Names of
special tokens in the text stand for these tokens. No bos is added, because a template writes it
where its model wants one.
"""

import datetime
import functools
import json
from typing import Any, NoReturn, TypeGuard

from mtp.data.tokenizer import BPE, Tokenizer
from mtp.errors import BadInput

DAY = datetime.date(2024, 7, 26)  # Llama 3's templates take this one where they know none


def has_template(text: Tokenizer) -> TypeGuard[BPE]:
    return isinstance(text, BPE) and bool(text.chat)


def message(text: Tokenizer, content: str) -> list[int]:
    """The tokens of a conversation with one message, up to where the answer begins. Raises BadInput
    if the template fails."""
    assert isinstance(text, BPE)
    return text.encode_marked(rendered(text.chat, text.names, content))


def rendered(template: str, names: dict[str, str], content: str) -> str:
    import jinja2

    try:
        return _compiled(template).render(
            messages=[{"role": "user", "content": content}], add_generation_prompt=True, **names
        )
    except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError) as error:
        raise BadInput(f"the model's chat template fails: {error}") from None


@functools.lru_cache(4)
def _compiled(template: str) -> Any:
    from jinja2.sandbox import ImmutableSandboxedEnvironment  # torch needs it too

    made = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    made.filters["tojson"] = _json
    made.globals |= {"raise_exception": _raise, "strftime_now": _day}
    return made.from_string(template)


def _json(value: Any, indent: int | None = None) -> str:
    """Without Jinja's escapes for HTML."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise(reason: str) -> NoReturn:
    import jinja2

    raise jinja2.TemplateError(reason)


def _day(form: str) -> str:
    return DAY.strftime(form)
