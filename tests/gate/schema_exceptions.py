"""What schemathesis takes for a fault of this API and is none: its hooks, which it imports by itself.

Each exception is as narrow as the answer allows, and says why. What it drops, the run's report counts as `filtered`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any, Final

import schemathesis

SPARED: Final = os.environ.get("THUNDERLINE_FUZZ_SPARED", "").split(",")
"""What names the run's own token: its id and its name."""


class Answer:
    """What a failure is about: the check that found it, the operation, the status, and the answer's document."""

    def __init__(self, failure: Any, case: Any, response: Any) -> None:
        self.kind = type(failure).__name__
        self.method = response.request.method
        self.path = case.operation.path
        self.status = response.status_code
        try:
            self.body = response.json()
        except ValueError:
            self.body = None
        told = self.body if isinstance(self.body, dict) else {}
        self.code, self.field, self.detail = (str(told.get(name)) for name in ("code", "field", "detail"))

    @property
    def is_refused_for_its_content(self) -> bool:
        """422, of what the document allows."""
        return self.kind == "RejectedPositiveData" and self.status == 422


def key_of_an_earlier_request(answer: Answer) -> bool:
    """The generator sends one `Idempotency-Key` with several requests, and that is what must be refused."""
    return answer.is_refused_for_its_content and answer.code == "idempotency_key_reused"


def cursor_of_no_list(answer: Answer) -> bool:
    """A cursor is the server's own; of others the document can only say which characters they are made of."""
    return answer.is_refused_for_its_content and answer.field == "cursor"


def tags_that_are_none(answer: Answer) -> bool:
    """`If-Match` and `If-None-Match` are lists of entity tags (RFC 9110), which are looked at only where an answer has
    a tag: a pattern in the document would have them refused where they are ignored."""
    return answer.is_refused_for_its_content and answer.field in ("If-Match", "If-None-Match")


def integer_with_a_point(answer: Answer) -> bool:
    """To JSON Schema 707.0 is an integer; to typed readers of JSON, ours among them, it is none."""
    return answer.is_refused_for_its_content and bool(re.search(r"expected `int.*got `float`", answer.detail))


def name_of_nothing(answer: Answer) -> bool:
    """A body that refers to what is not there is well formed, and still cannot be done."""
    return answer.is_refused_for_its_content and answer.detail.startswith("parent: there is no group ")


def revision_to_come(answer: Answer) -> bool:
    """Where the log stands is not in the document."""
    return answer.is_refused_for_its_content and answer.detail.endswith(", where the log stands")


def number_beyond_64_bits(answer: Answer) -> bool:
    """`meta` is any JSON; that its numbers are bounded the document says in words."""
    return answer.is_refused_for_its_content and ": must be a number from -9223372036854775808 to " in answer.detail


def session_of_one(answer: Answer) -> bool:
    """Of two fields together the document cannot speak."""
    return answer.is_refused_for_its_content and answer.detail.startswith("remote_node_id: is the node itself; ")


def parameters_that_do_not_fit(answer: Answer) -> bool:
    """Of two parameters together the document cannot speak."""
    return answer.is_refused_for_its_content and (
        answer.detail in ("from: should not be later than to", "at: should not be given together with revision")
        or bool(re.match(r"resolution: gives more than [0-9,]+ buckets of |label: .* at once$", answer.detail))
    )


def years_at_the_end_of_time(answer: Answer) -> bool:
    """`date-time` has the years 0 to 9999."""
    return answer.is_refused_for_its_content and ": should be in one of the years " in answer.detail


def fields_that_belong_together(answer: Answer) -> bool:
    """Of two fields together the document cannot speak."""
    return answer.is_refused_for_its_content and answer.detail in (
        "reason: is that of a status; give the status with it",
        "scopes: is needed, or `join` instead of it: they say what the token is for",
    )


def login_where_nobody_has_to(answer: Answer) -> bool:
    """Whether a server has `auth` is not for its document to say of one operation's body."""
    return answer.is_refused_for_its_content and answer.detail.startswith("token: is not needed: ")


def name_of_two(answer: Answer) -> bool:
    """A token and a node of one name: which is meant, only its id tells."""
    return answer.is_refused_for_its_content and answer.detail.endswith("give the id of the one you mean")


def items_that_fail_by_themselves(answer: Answer) -> bool:
    """A batch is answered 200; what is wrong with an item stands in its result."""
    if (answer.kind, answer.status) != ("AcceptedNegativeData", 200) or answer.method != "POST":
        return False
    if answer.path not in ("/api/nodes/batch", "/api/heartbeats"):
        return False
    return any(result["status"] >= 400 for result in answer.body["results"])


def node_that_is_called_batch(answer: Answer) -> bool:
    """`/api/nodes/batch` is also where a node of that name is read, changed and deregistered."""
    return (answer.kind, answer.method, answer.path) == ("AllowHeaderMismatch", "OPTIONS", "/api/nodes/batch")


EXCEPTIONS: Final[tuple[Callable[[Answer], bool], ...]] = (
    key_of_an_earlier_request,
    cursor_of_no_list,
    tags_that_are_none,
    integer_with_a_point,
    name_of_nothing,
    revision_to_come,
    number_beyond_64_bits,
    session_of_one,
    parameters_that_do_not_fit,
    years_at_the_end_of_time,
    fields_that_belong_together,
    login_where_nobody_has_to,
    name_of_two,
    items_that_fail_by_themselves,
    node_that_is_called_batch,
)


@schemathesis.hook
def filter_failure(context: Any, failure: Any, case: Any, response: Any) -> bool:
    """Whether this counts."""
    answer = Answer(failure, case, response)
    return not any(exception(answer) for exception in EXCEPTIONS)


@schemathesis.hook
def filter_case(context: Any, case: Any) -> bool:
    """Whether this is sent: the run's own token must outlive it."""
    return not (case.operation.path == "/api/tokens/{ref}" and str((case.path_parameters or {}).get("ref")) in SPARED)
