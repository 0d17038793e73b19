"""The options of a generator's source, python:MODULE?NAME=VALUE,.."""

from collections.abc import Mapping


def whole_numbers(
    options: Mapping[str, str], limits: Mapping[str, tuple[int, int]]
) -> dict[str, int]:
    """The options as numbers. limits: the smallest and largest value of each that there is. Raises
    ValueError that names an unknown or bad option."""
    numbers: dict[str, int] = {}
    for name, text in options.items():
        if name not in limits:
            raise ValueError(f"unknown option {name!r}; choose from: {', '.join(limits)}")
        low, high = limits[name]
        if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
            raise ValueError(f"{name} is {text!r}; it must be a whole number from {low} to {high}")
        numbers[name] = int(text)
    return numbers
