"""The way between a node and the registry: what is lost on it, and how long the rest takes."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

Millis = Annotated[float, Meta(ge=0)]


class Constant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="constant"):
    """Every message takes `ms`."""

    ms: Millis

    def draw_s(self, rng: random.Random) -> float:
        """How long one message takes, in seconds."""
        return self.ms / 1000


class Uniform(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="uniform"):
    """From `min_ms` to `max_ms`, all alike."""

    min_ms: Millis
    max_ms: Millis

    def draw_s(self, rng: random.Random) -> float:
        """How long one message takes, in seconds."""
        return rng.uniform(self.min_ms, self.max_ms) / 1000


class Exponential(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="exponential"
):
    """`min_ms` and, on average, `mean_ms` more: queues along the way."""

    min_ms: Millis = 0.0
    mean_ms: Annotated[float, Meta(gt=0)]

    def draw_s(self, rng: random.Random) -> float:
        """How long one message takes, in seconds."""
        return (self.min_ms + rng.expovariate(1 / self.mean_ms)) / 1000


class Pareto(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="pareto"):
    """`min_ms` at least, and a heavy tail: the lower the `shape`, the more messages take very long; 60 s at most."""

    min_ms: Annotated[float, Meta(gt=0)]
    shape: Annotated[float, Meta(ge=0.5, le=10)] = 1.5

    def draw_s(self, rng: random.Random) -> float:
        """How long one message takes, in seconds."""
        return min(self.min_ms / 1000 * rng.paretovariate(self.shape), 60.0)


Delay: TypeAlias = Constant | Uniform | Exponential | Pareto


class Path:
    """One node's way to the registry and back."""

    __slots__ = ("_rng", "cuts", "delay", "loss")

    def __init__(self, rng: random.Random, *, loss: float, delay: Delay) -> None:
        self._rng = rng
        self.loss = loss
        self.delay = delay
        self.cuts = 0
        """Faults that cut it at present; nothing passes while there is one."""

    def impair(self, *, loss: float | None, delay: Delay | None) -> Callable[[], None]:
        """Make it worse, and give what makes it as it was."""
        before = self.loss, self.delay
        self.loss = self.loss if loss is None else loss
        self.delay = self.delay if delay is None else delay

        def restore() -> None:
            self.loss, self.delay = before

        return restore

    def pass_s(self) -> float | None:
        """How long the next message takes, in seconds; None: it is lost."""
        if self.cuts or (self.loss and self._rng.random() < self.loss):
            return None
        return self.delay.draw_s(self._rng)
