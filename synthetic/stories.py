"""Seeded short stories for children, to study how a model learns to copy names.

    $ python -c "from synthetic.stories import story; print(story(0, 212).text())"
    One short autumn afternoon, a girl named Huzi collected feathers near the river. It
    had been her own idea. Her cousin Rasu had an orange cap, and they often played
    cards.
    "May Truke come too?" inquired Rasu. Truke was his donkey, brown and hard-working.
    Crash! The necklace of her big brother lay in seven pieces. Huzi turned pale. "Stay,
    Truke!" sighed Rasu, but Truke was too upset. Rasu fetched glue, and they tried to
    mend it. The necklace looked crooked, and Huzi groaned. Before noon, Huzi went in
    with Rasu. "I broke the necklace," she answered. "I am rather sorry." They mended
    the necklace together: Huzi held it, Rasu painted it pink, and nobody was cross.
    Truke made a small noise, and everyone laughed. "Patience is harder than it looks,"
    declared Huzi. "You sound like my stepfather," declared Rasu.

As in Gloeckle et al. 2024, section 4.1, a model is trained on the stories and then reads held-out
ones in which each name was replaced by a random name of two tokens. How often does it predict the
second token right after the first, at every mention but the first?

A story is an opening, a friend, perhaps a third character, the beats of one plot with asides in
between, and an ending. All of its text comes from the grammar in story_parts.py.

The characters have invented names of two syllables, 8050 in all. A tenth of them is never used:
these are the held-out names. A model could guess common names from their beginning, and would gain
little from copying; `invented` percent may be fewer than all. No two names in a story begin with
the same two letters. Every name follows exactly one space, so that a tokenizer sees it alike
everywhere.

`calls` percent of the documents are roll calls instead of stories. In stories few tokens can be
copied. In roll calls the second half of every name can. `order` says how the names follow one
another. "random": each is drawn anew. "cyclic": they are called in turn, so that what comes next
can be copied as well. "none": there are no roll calls.

    random   Calling Grumo Zega Kapo Klefo Grumo Kapo Stama Grumo Zega Zega Klefo Kapo Klefo Grumo.
    cyclic   Calling Grumo Zega Kapo Klefo Stama Grumo Zega Kapo Klefo Stama Grumo Zega Kapo Klefo.

What the heads of an n=2 model are to predict at the first and at the second half of a name:

           .. Gru  mo  Ze  ga ..    head 1       head 2
    random     ^                    mo, copied   Ze, anyone's
                   ^                Ze, anyone's ga, anyone's
    cyclic     ^                    mo, copied   Ze, copied
                   ^                Ze, copied   ga, copied

A document has the same names, and as many of them, in both orders.
"""

import lzma
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from synthetic import story_parts

WORDS_ALLOWED = range(90, 201)
COMMON = {"girl": story_parts.GIRLS.split(), "boy": story_parts.BOYS.split()}
TEST_SEED = 2**32  # of held-out stories; sources take smaller ones
ORDERS = ("random", "cyclic", "none")  # of the names in roll calls
MENTIONS = (4, 4, 2)  # of the hero, of the friend, of the third one, at least

_STARTS, _ENDS = (
    [consonants + vowel for consonants in parts.split() for vowel in "aeiou"]
    for parts in (story_parts.NAME_STARTS, story_parts.NAME_MIDDLES)
)
_NAMES = "\1\2\3"  # stand for the characters until the text is cut there
_AN, _CAPITAL = "\4", "\5"  # "a" may become "an" here; the next letter is a capital
_FORMS = {
    "girl": dict(he="she", him="her", his="her", He="She", His="Her", girl="girl", sister="sister"),
    "boy": dict(he="he", him="him", his="his", He="He", His="His", girl="boy", sister="brother"),
}
_KEPT = {
    (kind, who): {f"{key}{who}": form for key, form in forms.items()}
    for kind, forms in _FORMS.items()
    for who in (1, 2, 3)
}


@dataclass(frozen=True)
class Story:
    """parts: the text around the names; names: the characters; who: for each gap between parts,
    the index of the character named there. len(parts) == len(who) + 1.
    """

    parts: tuple[str, ...]
    names: tuple[str, ...]
    who: tuple[int, ...]

    def text(self, names: Sequence[str] | None = None) -> str:
        """The story, with these names in place of its own."""
        names = self.names if names is None else names
        if len(names) != len(self.names):
            raise ValueError(f"{len(names)} names for a story of {len(self.names)} characters")
        named = [names[i] + part for i, part in zip(self.who, self.parts[1:], strict=True)]
        return self.parts[0] + "".join(named)


def story(seed: int, index: int, invented: int = 100) -> Story:
    """Story number `index` of a seed, whatever was drawn before it. `invented` percent of the names
    are not common ones."""
    random = Random(f"{seed} {index}")  # of a string it takes the SHA-512
    count = random.choice((2, 3))
    kinds = [random.choice(("girl", "boy")) for _ in range(count)]
    names = _names(random, kinds, invented / 100)
    while True:
        text = _draft(random, kinds)
        mentions = map(text.count, _NAMES[:count])
        if text.count(" ") + text.count("\n") + 1 in WORDS_ALLOWED and all(
            found >= wanted for found, wanted in zip(mentions, MENTIONS, strict=False)
        ):
            break
    pieces = re.split(f"([{_NAMES}])", text)
    who = tuple(_NAMES.index(mark) for mark in pieces[1::2])
    return Story(tuple(pieces[::2]), tuple(names), who)


def documents(options: Mapping[str, str]) -> Iterator[str]:
    """Stories 0..count-1, some of them replaced by roll calls; options: "seed" (default 0),
    "count" (default 20000), "invented" (default 100), percent of the names, "calls" (default 40),
    percent of the documents, "order" of the names in roll calls (default "random"; ORDERS).

    Raises ValueError, at the call, on an unknown or bad option.
    """
    values = {"seed": 0, "count": 20000, "invented": 100, "calls": 40}
    order = options.get("order", "random")
    if order not in ORDERS:
        raise ValueError(f"option order={order!r} of stories; choose from: {', '.join(ORDERS)}")
    for key, value in options.items():
        if key == "order":
            continue
        if key not in values:
            known = ", ".join([*values, "order"])
            raise ValueError(f"unknown option {key!r} of stories; choose from: {known}")
        if not re.fullmatch("[0-9]+", value):
            raise ValueError(f"option {key}={value!r} of stories must be a whole number, 0 or more")
        values[key] = int(value)
    if values["seed"] >= TEST_SEED:
        raise ValueError(f"option seed={values['seed']} of stories must be below {TEST_SEED}")
    for key in ("invented", "calls"):
        if values[key] > 100:
            raise ValueError(f"option {key}={values[key]} of stories is percent, up to 100")
    seed, count, invented, calls = values.values()
    if order == "none":
        if calls and "calls" in options:
            raise ValueError(f"option calls={calls} of stories needs an order other than none")
        calls = 0
    return (_document(seed, index, invented, calls, order) for index in range(count))


def _document(seed: int, index: int, invented: int, calls: int, order: str) -> str:
    random = Random(f"{seed} {index} call")
    if random.random() < calls / 100:
        return _call(random, order)
    return story(seed, index, invented).text()


def _call(random: Random, order: str) -> str:
    """A few names over and over, about as long as a short story."""
    names = _names(random, ["girl"] * random.randint(3, 10), invented=1)
    count = random.randint(40, 50)
    if order == "cyclic":
        called = [names[i % len(names)] for i in range(count)]
    else:
        called = random.choices(names, k=count)
    return f"Calling {' '.join(called)}."


LABELS = ("copied",)
_NAME = re.compile(rf"\b({'|'.join(s.capitalize() for s in _STARTS)})({'|'.join(_ENDS)})\b")


def labels(text: str) -> Iterator[tuple[int, int, str]]:
    """The spans of a text, or of a part of it, that a model can copy: the second half of each name
    that was there before. (start, stop, label)"""
    seen = set[str]()
    for match in _NAME.finditer(text):
        if match[0] in seen:
            yield *match.span(2), "copied"
        seen.add(match[0])


def variety(texts: Iterable[str]) -> dict[str, float]:
    """How varied texts of any origin are.

    words, distinct words       of all the texts
    types/tokens                distinct words over words, in the first 20,000 words
    distinct 3-grams, 5-grams   share of the n-grams of words there that are distinct
    zlib, lzma                  compressed size over size, of the first 500 kB; zlib sees
                                repetitions within 32 kB, lzma all
    """
    whole = "\n".join(texts)
    words = re.findall(r"[^\W\d_]+(?:['’][^\W\d_]+)*", whole.lower())
    if not words:
        raise ValueError("no words to measure")
    first = words[:20_000]

    def distinct(n: int) -> float:
        grams = list(zip(*(first[i:] for i in range(n)), strict=False))
        return len(set(grams)) / max(len(grams), 1)

    data = whole.encode()[:500_000]
    return {
        "words": len(words),
        "distinct words": len(set(words)),
        "types/tokens": distinct(1),
        "distinct 3-grams": distinct(3),
        "distinct 5-grams": distinct(5),
        "zlib": len(zlib.compress(data, 9)) / len(data),
        "lzma": len(lzma.compress(data)) / len(data),
    }


class _Choice:
    """Alternatives, each a row of texts and choices; one with a key is drawn once per story."""

    __slots__ = ("key", "options")

    def __init__(self, options: "list[list[str | _Choice]]", key: str = "") -> None:
        self.options, self.key = options, key


_WORDS: dict[str, _Choice] = {}
ORDINARY = {*COMMON["girl"], *COMMON["boy"]}  # and the grammar's words: no invented name is one


def _parse(text: str) -> _Choice:
    """The alternatives of a text in the notation of story_parts."""
    ORDINARY.update(word.capitalize() for word in re.findall("[A-Za-z]+", text))
    text = re.sub(r"\|\s*\n\s*", "|", text.strip())
    text = re.sub(r"\s*\n\s*", " ", text)
    choice = _alternatives(iter(re.findall(r"\{\w+\}|<\w+>|[][|]|[^][|{<]+", text)))
    for option in choice.options:  # spaces around | count only within brackets
        if option and isinstance(option[0], str):
            option[0] = option[0].lstrip()
        if option and isinstance(option[-1], str):
            option[-1] = option[-1].rstrip()
    return choice


def _alternatives(tokens: Iterator[str]) -> _Choice:
    options: list[list[str | _Choice]] = [[]]
    for token in tokens:
        if token == "]":
            break
        if token == "|":
            options.append([])
        elif token == "[":
            options[-1].append(_alternatives(tokens))
        elif token[0] == "<":
            options[-1].append(_Choice([], token[1:-1]))
        elif token[0] == "{":
            word = token[1:-1]
            drawn = _word(word.lower())
            options[-1].append(_Choice(drawn.options, word) if word.isupper() else drawn)
        else:
            options[-1].append(token)
    for option in options:
        for i, piece in enumerate(option):
            if isinstance(piece, str):
                option[i] = _marked(piece, last=i + 1 == len(option))
    return _Choice(options)


def _word(name: str) -> _Choice:
    if name not in _WORDS:
        _WORDS[name] = _parse(story_parts.WORDS[name])
    return _WORDS[name]


def _marked(text: str, last: bool) -> str:
    """A literal text with capitals after full stops, and marks where what follows decides."""
    for i, mark in enumerate(_NAMES, 1):
        text = text.replace(f"${i}", mark)
    text = re.sub(r'[.!?] "?[a-z]', lambda found: found[0].upper(), text)
    if not last:
        text = re.sub(r'([.!?] "?)$', rf"\1{_CAPITAL}", text)
        text = re.sub(r'((?:^|[ "])[aA]) $', rf"\1{_AN} ", text)
    return text


def _sentences(text: str) -> list[_Choice]:
    """Alternatives that each start a sentence."""
    return [_Choice([[_CAPITAL, *option]]) for option in _parse(text).options]


_OPENINGS, _FRIENDS, _ASIDES, _ENDINGS = map(
    _sentences,
    (story_parts.OPENINGS, story_parts.FRIENDS, story_parts.ASIDES, story_parts.ENDINGS),
)
_THIRDS = [[_sentences(beat) for beat in beats] for beats in story_parts.THIRDS.values()]
_PLOTS = [
    (name in story_parts.MEETINGS, [_sentences(beat) for beat in beats])
    for name, beats in story_parts.PLOTS.items()
]


def _draft(random: Random, kinds: list[str]) -> str:
    """A story with marks for names; its length and mentions are as they come."""
    meeting, plot = random.choice(_PLOTS)
    beats = [random.choice(_OPENINGS), *([] if meeting else [random.choice(_FRIENDS)])]
    beats += [random.choice(beat) for beat in plot]
    asides = random.sample(_ASIDES, random.choice((1, 2)))
    if len(kinds) == 3:
        enters, does, ends = random.choice(_THIRDS)
        beats.insert(2, random.choice(enters))
        beats.append(random.choice(ends))
        asides[-1:] = random.sample(does, 1)
    for aside in asides:
        beats.insert(random.randrange(3, len(beats)), aside)
    beats.append(random.choice(_ENDINGS))

    kept: dict[str, str] = {}
    for who, kind in enumerate(kinds, 1):
        kept |= _KEPT[kind, who]
    text: list[str] = []
    for beat in beats:
        pieces: list[str] = []
        _expand(beat, pieces, random.random, kept)
        sentences = "".join(pieces).lstrip(_CAPITAL)
        # a paragraph begins with no name, so that a space precedes every name, and always
        # begins where one speech follows another
        speeches = text and text[-1].endswith('"') and sentences.startswith('"')
        new = sentences[0] not in _NAMES and (speeches or random.random() < 0.25)
        text += ["\n" if new else " ", _CAPITAL + sentences]
    whole = "".join(text[1:])
    whole = re.sub(f'{_CAPITAL}+("?[a-z]?)', lambda found: found[1].upper(), whole)
    return re.sub(f"{_AN}(?= [aeiouAEIOU])", "n", whole).replace(_AN, "")


def _expand(
    choice: _Choice, text: list[str], random: Callable[[], float], kept: dict[str, str]
) -> None:
    key = choice.key
    if key:
        if key not in kept:
            once: list[str] = []
            _expand(_Choice(choice.options), once, random, kept)
            kept[key] = "".join(once)
        text.append(kept[key])
        return
    options = choice.options
    for piece in options[int(random() * len(options))]:
        if isinstance(piece, str):
            text.append(piece)
        else:
            _expand(piece, text, random, kept)


def _names(random: Random, kinds: list[str], invented: float) -> list[str]:
    """A name for each, no two beginning alike."""
    names: list[str] = []
    while len(names) < len(kinds):
        if random.random() < invented:
            name = _invented(random)
        else:
            name = random.choice(COMMON[kinds[len(names)]])
        if not any(name[:2] == other[:2] for other in names):
            names.append(name)
    return names


def _invented(random: Random) -> str:
    while True:
        start, end = random.randrange(len(_STARTS)), random.randrange(len(_ENDS))
        name = _STARTS[start] + _ENDS[end]
        if not _held_out(start, end) and name not in ORDINARY:
            return name


def _held_out(start: int, end: int) -> bool:
    return (start + end) % 10 == 0


def held_out_names() -> list[str]:
    """The invented names that occur in no story."""
    names = [
        start + end
        for i, start in enumerate(_STARTS)
        for j, end in enumerate(_ENDS)
        if _held_out(i, j)
    ]
    return [name for name in names if name not in ORDINARY]
