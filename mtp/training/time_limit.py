"""The time limit of a job."""


def seconds_left() -> float | None:
    return None
