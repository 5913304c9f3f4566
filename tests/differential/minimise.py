"""Makes a sequence that ends in a difference as short as can be."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.differential.steps import Receive, Sequence, Step
from tests.differential.wire import frames_of

__all__ = ["minimise"]

Fails = Callable[[Sequence], bool]


def minimise(sequence: Sequence, fails: Fails) -> Sequence:
    """Leave out and simplify whatever can be, until nothing more can.

    Args:
        sequence: Fails.
        fails: Whether a sequence still ends in the same kind of difference.
    """
    while True:
        smaller = _first(sequence, fails)
        if smaller is None:
            return sequence
        sequence = smaller


def _first(sequence: Sequence, fails: Fails) -> Sequence | None:
    for candidate in _smaller(sequence):
        if fails(candidate):
            return candidate
    return None


def _smaller(sequence: Sequence) -> Iterator[Sequence]:
    """Sequences that are a little simpler, the simplest first."""
    steps = sequence.steps
    size = len(steps)
    while size := size // 2:
        for at in range(0, len(steps), size):
            yield sequence._replace(steps=steps[:at] + steps[at + size :])
    for at, step in enumerate(steps):
        if isinstance(step, Receive):
            for simpler in _simpler(step):
                yield sequence._replace(steps=[*steps[:at], simpler, *steps[at + 1 :]])
    if sequence.config:
        yield sequence._replace(config=0)


def _simpler(step: Receive) -> Iterator[Step]:
    frames = list(frames_of(step.data))
    if step.cuts:
        yield step._replace(cuts=())
        if len(step.cuts) > 1:
            for at in range(len(step.cuts)):
                yield step._replace(cuts=step.cuts[:at] + step.cuts[at + 1 :])
    if step.view:
        yield step._replace(view=False)
    if len(frames) > 1:
        for at in range(len(frames)):
            yield step._replace(data=b"".join(frames[:at] + frames[at + 1 :]))
    for at, frame in enumerate(frames):
        if len(frame) > 10 and (payload := len(frame) - 9) == int.from_bytes(frame[:3], "big"):
            half = payload // 2
            shorter = half.to_bytes(3, "big") + frame[3 : 9 + half]
            yield step._replace(data=b"".join([*frames[:at], shorter, *frames[at + 1 :]]))
