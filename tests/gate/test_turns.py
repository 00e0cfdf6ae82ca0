"""Work that takes turns, and answers that nobody takes."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from thunderline.gate.protocol import Answers
from thunderline.gate.turns import Turns


async def test_a_burst_is_done_in_order_so_much_in_each_turn() -> None:
    turns, done, beside = Turns(3), [], []
    for number in range(8):
        turns.take(lambda number=number: done.append(number))
    assert (done, len(turns)) == ([0, 1, 2], 5)

    for expected in (6, 8, 8):
        # What is queued in the loop meanwhile has its turn before the next part.
        asyncio.get_running_loop().call_soon(lambda: beside.append(len(done)))
        await asyncio.sleep(0)
        assert done == list(range(expected))
    assert beside == [6, 8, 8]
    turns.take(lambda: done.append(8))
    assert done[-1] == 8


async def test_who_comes_alone_does_not_wait() -> None:
    turns, done = Turns(1), []
    for number in range(3):
        turns.take(lambda number=number: done.append(number))
        assert done[-1] == number
        await asyncio.sleep(0)
        await asyncio.sleep(0)


def test_an_answer_to_a_client_that_has_gone_goes_nowhere() -> None:
    class Gone:
        """A transport as uvloop has it once the connection is lost."""

        def __init__(self) -> None:
            self.closed = False

        def is_closing(self) -> bool:
            return True

        def write(self, data: bytes) -> None:
            raise RuntimeError("the handler is closed")

        def close(self) -> None:
            self.closed = True

    gone = Gone()
    answers = Answers(cast(Any, gone))
    answers.write(b"HTTP/1.1 200 OK\r\n\r\n")
    answers.close()
    assert gone.closed
