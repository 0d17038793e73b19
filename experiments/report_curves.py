"""Loss curves of results/STUDY/SCALE.json as inline SVG: all runs of a study in one chart, and a
small one of each run for its line of the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.figures import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, RED
from experiments.report_html import Html, box, tag

COLOURS = (BLACK, BLUE, ORANGE, GREEN, PURPLE, RED, "#56b4e9", GREY)
WIDE, HIGH = 720, 300
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 10, 40  # pixels around the chart

Run = Mapping[str, Any]


def has_curve(run: Run | None) -> bool:
    return bool(run and run["curve"]["loss"] and len(run["curve"]["tokens"]) > 1)


class Scale:
    """From tokens and nats to places; the same for all runs of a study."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self.tokens = max(run["curve"]["tokens"][-1] for run in runs)
        losses = [loss for run in runs for head in run["curve"]["loss"] for loss in head]
        kinds = ["byte" if r["config"]["data"]["tokenizer"] == "bytes" else "token" for r in runs]
        self.unit = kinds[0] if len(set(kinds)) == 1 else "token or byte"
        self.low, self.high = min(losses), max(losses)

    def line(self, run: Run, head: int, box: tuple[float, float, float, float]) -> str:
        """A path in a box of left, top, width and height."""
        left, top, width, height = box
        curve = run["curve"]
        points = zip(curve["tokens"], curve["loss"][head], strict=True)
        return "M" + " ".join(
            f"{left + width * x / self.tokens:.1f},"
            f"{top + height * (self.high - y) / (self.high - self.low or 1):.1f}"
            for x, y in points
        )


def small(run: Run, scale: Scale, arm: str) -> Html:
    """The curve of every head, head 1 in the text's colour and the others fainter."""
    heads = range(len(run["curve"]["loss"]))
    lines = [
        tag("path", d=scale.line(run, i, (1, 2, 158, 36)), class_="first" if i == 0 else "later")
        for i in reversed(heads)
    ]
    ends = ", ".join(f"head {i + 1} {run['curve']['loss'][i][-1]:.2f}" for i in heads)
    label = f"Loss of {arm} over training; at the end: {ends} nats"
    title = tag("title", label)
    return tag("svg", title, *lines, viewBox="0 0 160 40", class_="small", role="img")


def chart(runs: Mapping[str, Run], arms: Mapping[str, str], scale: Scale) -> Html:
    """Head 1's loss of all runs, a colour for each arm.

    runs, arms  by the run's name
    """
    place = (LEFT, TOP, WIDE - LEFT - RIGHT, HIGH - TOP - BOTTOM)
    names = list(dict.fromkeys(arms[run] for run in runs))
    colour = {arm: COLOURS[i % len(COLOURS)] for i, arm in enumerate(names)}
    dashes = {arm: "6 3" if i >= len(COLOURS) else None for i, arm in enumerate(names)}
    parts = _axes(scale, place)
    for name, run in runs.items():
        arm = arms[name]
        line = scale.line(run, 0, place)
        parts.append(tag("path", d=line, stroke=colour[arm], stroke_dasharray=dashes[arm]))
    ends = ", ".join(
        f"{arm} {sum(each) / len(each):.2f}"
        for arm in names
        if (each := [r["curve"]["loss"][0][-1] for n, r in runs.items() if arms[n] == arm])
    )
    label = f"Training loss of head 1 by tokens; at the end, mean of seeds: {ends} nats."
    picture = tag(
        "svg", tag("title", label), *parts, viewBox=f"0 0 {WIDE} {HIGH}", role="img", class_="chart"
    )  # fmt: skip
    keys = [tag("li", tag("i", style=f"background:{colour[arm]}"), arm) for arm in names]
    return tag("div", box("Loss curves", picture), tag("ul", *keys, class_="keys"), class_="card")


def _axes(scale: Scale, place: tuple[float, float, float, float]) -> list[Html]:
    left, top, width, height = place
    parts = []
    for value in _ticks(scale.low, scale.high):
        y = top + height * (scale.high - value) / (scale.high - scale.low or 1)
        parts.append(tag("line", x1=left, x2=left + width, y1=f"{y:.1f}", y2=f"{y:.1f}"))
        parts.append(
            tag("text", f"{value:g}", x=left - 6, y=f"{y + 4:.1f}", text_anchor="end")
        )  # fmt: skip
    for value in _ticks(0, scale.tokens):
        x = left + width * value / scale.tokens
        text = f"{value / 1e6:g}M" if scale.tokens >= 1e6 else f"{value / 1e3:g}k"
        anchor = "end" if x > left + width - 10 else "middle"
        parts.append(
            tag("text", text, x=f"{x:.1f}", y=top + height + 16, text_anchor=anchor)
        )  # fmt: skip
    end = {"x": left + width, "y": top + height + 34, "text_anchor": "end"}
    seen = scale.unit.replace(" or", "s or") + "s seen in training"
    parts.append(tag("text", seen, **end))
    parts.append(tag("text", f"nats per {scale.unit}", **end | {"y": top + 10}))
    return parts


def _ticks(low: float, high: float) -> list[float]:
    """Three to eight round numbers within a range."""
    size = (high - low) or 1.0
    step = 10.0 ** (len(f"{int(size)}") - 1) if size >= 1 else 0.1
    while size / step > 8:
        step *= 2
    while size / step < 3:
        step /= 2
    first = -(-low // step)
    count = int((high - first * step) // step) + 1
    return [round((first + i) * step, 6) for i in range(count)]
