"""Patterns over event names, as NATS subjects have them: `*` is one token, `>` at the end is one or more.

Source: NATS documentation, "Subject-Based Messaging", wildcards.
"""

from __future__ import annotations

import re
from typing import Final

from thunderline.core.errors import InvalidInput
from thunderline.core.records import Event
from thunderline.flow.taxonomy import is_damped

PATTERN_MAX: Final = 255
_DECIDED_MAX: Final = 256
"""Well above the number of names there are, so that other names cannot fill the memory."""
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]+")
GRAMMAR: Final = r"^(>|([A-Za-z0-9_-]+|\*)(\.([A-Za-z0-9_-]+|\*))*(\.>)?)$"
"""What a pattern may look like, for those who describe it; `Pattern` says better what is wrong."""


class Pattern:
    """A compiled pattern. What is in `without` does not match, whatever the text says.

    One that is `damped` leaves out single changes of status of nodes that flap; that they began to, or ended, stays.

    Each name is looked at once: names are few, they are those of the taxonomy.
    """

    def __init__(self, text: str, *, without: frozenset[str] = frozenset(), damped: bool = False) -> None:
        """Raises: InvalidInput naming `match`."""
        tokens = text.split(".")
        if len(text) > PATTERN_MAX:
            raise InvalidInput("match", f"is longer than {PATTERN_MAX} characters")
        parts = []
        for index, token in enumerate(tokens):
            if token == "*":
                parts.append(r"[^.]+")
            elif token == ">" and index == len(tokens) - 1:
                parts.append(r".+")
            elif _TOKEN.fullmatch(token):
                parts.append(re.escape(token))
            else:
                raise InvalidInput(
                    "match",
                    f"has {token[:40]!r} where a word, `*`, or a last `>` should be, e.g. cluster.node.>",
                )
        self.text = text
        self._without = without
        self._damped = damped
        self._matches_all = text == ">"
        self._regex = re.compile(r"\.".join(parts))
        self._decided: dict[str, bool] = {}

    @property
    def key(self) -> tuple[str, frozenset[str], bool]:
        """Patterns with equal keys hold for the same events."""
        return self.text, self._without, self._damped

    def holds(self, event: Event) -> bool:
        """Whether the event is one of those asked for."""
        return self.matches(event.name) and not (self._damped and is_damped(event))

    def matches(self, name: str) -> bool:
        """Whether the whole of `name` is covered."""
        decided = self._decided.get(name)
        if decided is None:
            decided = name not in self._without and (self._matches_all or self._regex.fullmatch(name) is not None)
            if len(self._decided) < _DECIDED_MAX:
                self._decided[name] = decided
        return decided
