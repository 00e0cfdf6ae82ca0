"""Every error that Thunderline raises on purpose.

    ThunderlineError
    ├── InvalidInput            the caller's data; `field` says where
    │   ├── MalformedBody           not JSON at all
    │   ├── BodyTooLarge
    │   ├── IdempotencyKeyReused    with another request than the first
    │   ├── IdempotencyKeyRefused   where the answer is kept by nobody
    │   └── ProtocolViolation       a frame that has no place there
    ├── NotFound
    │   ├── UnknownNode
    │   ├── UnknownCapability       the node has none under that key
    │   ├── UnknownSession
    │   ├── UnknownGroup
    │   ├── UnknownMembership       the node is not itself in that group
    │   ├── UnknownToken
    │   ├── UnknownAlert
    │   ├── UnknownSilence
    │   └── Deregistered            it was known until now
    ├── Refused                 well-formed, but not from this caller
    │   ├── Unauthenticated         who calls is not known
    │   │   ├── TokenUnknown            there is no such token
    │   │   ├── TokenExpired
    │   │   └── TokenRevoked
    │   ├── NotPermitted            the actor may not do this
    │   ├── JoinRefused             a join token cannot enrol this node
    │   ├── CsrfRefused             a page's request without the header that only our own page sends
    │   ├── HostRefused             `Host` is not on the allow-list
    │   ├── OriginRefused           a browser on a foreign page
    │   └── WrongContentType
    ├── Conflict                well-formed, but not in the present state
    │   ├── Mismatch                a known name with another role or domain
    │   ├── StaleIncarnation        from an earlier process of the node
    │   ├── StaleSequence           a beat too old to be told from a repeated one
    │   ├── Superseded              a later process of the node has taken over
    │   ├── SaidGoodbye             the node has left; a new process may come
    │   ├── SessionTaken            a session's name that links other nodes
    │   ├── SessionOver             changing a session that is closed or failed
    │   ├── EndNotUp                a session with a node that is not there
    │   ├── PreconditionFailed      `If-Match` names another state of the node
    │   ├── BatchRefused            all or nothing, and something cannot be
    │   ├── NotDone                 an item of such a batch that is not at fault
    │   ├── LiveLink                deregistering a node that is linked
    │   ├── GroupInUse              deleting a group that holds something
    │   ├── TokenNameTaken          a token of that name is still good
    │   ├── AlertOver               an alert that fires no longer
    │   └── GroupCycle              a group would be inside itself
    ├── CursorGone              the log cannot continue from there: list again
    ├── Unavailable             retryable; `retry_after_s` says when
    │   ├── Overloaded              a bounded lane is full
    │   ├── StoreUnavailable        nothing was written
    │   ├── RateLimited             this caller asks too often
    │   ├── NoHello                 a connection that says nothing
    │   ├── NameInUse               another process of this name is alive
    │   ├── SessionEnded            a link that the registry has given up
    │   ├── IdempotencyKeyInUse     the first request with this key is not answered yet
    │   └── ShuttingDown
    ├── OutcomeUnknown          the write may or may not be in the store
    ├── StoreFault              between a store and the commit pipeline, or at start
    │   ├── ContentRejected         the store refuses this batch for what is in it
    │   ├── StoreLocked             another process owns the database
    │   ├── StoreIncompatible       a schema or an engine that we do not know
    │   └── UpkeepFault             looking at, copying or restoring a database; nothing was changed
    │       ├── NoDatabase              there is none
    │       ├── FileInTheWay            what would be overwritten
    │       ├── NotABackup              a file that cannot be restored
    │       └── UpkeepFailed            the disk, or the system, said no
    ├── WatchCut                a watcher fell behind its backlog
    ├── WatchStalled            a watcher read nothing for too long
    ├── UndeclaredEvent         a bug of ours: an event that the taxonomy does not list
    └── SettingsError           a setting that cannot be used; names where it came from

`code` is the word for machines, the same over HTTP, on links and in logs; `retryable` says whether the same call may
go through later unchanged. `gate/faults.py` maps this tree to HTTP. The file is long because it is one tree, to be read
in one piece.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class ThunderlineError(Exception):
    """The root: catch this to catch everything that Thunderline raises on purpose."""

    code: str = "error"
    retryable: bool = False


class InvalidInput(ThunderlineError):
    """The caller's data cannot be used; nothing was changed."""

    code = "invalid_input"

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class MalformedBody(InvalidInput):
    """The body is not the JSON document that it should be."""

    code = "malformed_body"


class BodyTooLarge(InvalidInput):
    """The body is longer than this route takes."""

    code = "body_too_large"

    def __init__(self, limit_bytes: int) -> None:
        super().__init__("body", f"is longer than the {limit_bytes} bytes that are taken here")
        self.limit_bytes = limit_bytes


class IdempotencyKeyReused(InvalidInput):
    """The key stands for another request; a request of its own needs a key of its own."""

    code = "idempotency_key_reused"

    def __init__(self) -> None:
        super().__init__(
            "Idempotency-Key", "was sent with another method, path, query or body before; give each request its own"
        )


class IdempotencyKeyRefused(InvalidInput):
    """The answer would hold a secret, which is not kept to be given again."""

    code = "idempotency_key_refused"

    def __init__(self) -> None:
        super().__init__(
            "Idempotency-Key", "is not taken here: the answer holds a secret, which is kept nowhere; leave it out"
        )


class ProtocolViolation(InvalidInput):
    """A frame that may not come at this point of a link; the link is closed."""

    code = "protocol_violation"

    def __init__(self, problem: str) -> None:
        super().__init__("frame", problem)


class NotFound(ThunderlineError):
    """What the caller names does not exist."""

    code = "not_found"


class UnknownNode(NotFound):
    """No node has this id or name; a node that gets this registers again."""

    code = "unknown_node"

    def __init__(self, ref: str) -> None:
        super().__init__(f"no node has the id or name {ref[:255]!r}; register it with POST /api/nodes")
        self.ref = ref


class UnknownCapability(NotFound):
    """The node has no capability under that key."""

    code = "unknown_capability"

    def __init__(self, name: str, *, key: str) -> None:
        super().__init__(f"{name} has no capability {key!r}")
        self.name = name
        self.key = key


class UnknownSession(NotFound):
    """No link session has this `session_id` or id."""

    code = "unknown_session"

    def __init__(self, ref: str) -> None:
        super().__init__(f"no link session has the session_id or id {ref[:255]!r}")
        self.ref = ref


class UnknownGroup(NotFound):
    """No group has this id or name."""

    code = "unknown_group"

    def __init__(self, ref: str) -> None:
        super().__init__(f"no group has the id or name {ref[:255]!r}; create it with POST /api/groups")
        self.ref = ref


class UnknownMembership(NotFound):
    """The node is not itself a member of that group; it may be one of a group below."""

    code = "unknown_membership"

    def __init__(self, name: str, *, group: str) -> None:
        super().__init__(f"{name} is not itself a member of {group}")
        self.name = name
        self.group = group


class UnknownToken(NotFound):
    """No token has this id or name."""

    code = "unknown_token"

    def __init__(self, ref: str) -> None:
        if ref.startswith("tl_"):
            ref = "what looks like a token's own text"
        super().__init__(f"no token has the id or name {ref[:255]!r}; `thunderline token list` shows them")
        self.ref = ref


class UnknownAlert(NotFound):
    """No alert has this id, or it has been over for long."""

    code = "unknown_alert"

    def __init__(self, alert_id: str) -> None:
        super().__init__(f"no alert has the id {alert_id[:64]!r}; `thunderline alerts` shows them")
        self.alert_id = alert_id


class UnknownSilence(NotFound):
    """No silence has this id."""

    code = "unknown_silence"

    def __init__(self, silence_id: str) -> None:
        super().__init__(f"no silence has the id {silence_id[:64]!r}; `thunderline alerts silences` shows them")
        self.silence_id = silence_id


class Deregistered(NotFound):
    """The node was deregistered while it held a link; its process ends."""

    code = "deregistered"

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} was deregistered; start the node again if it should come back")
        self.name = name


class Refused(ThunderlineError):
    """The request is well-formed, but is not taken from this caller."""

    code = "refused"


class Unauthenticated(Refused):
    """Who calls is not known, and here it has to be."""

    code = "unauthenticated"

    def __init__(self, problem: str = "a token is needed: send it as `Authorization: Bearer TOKEN`") -> None:
        super().__init__(problem)


class TokenUnknown(Unauthenticated):
    """What was sent is not a token of this registry."""

    code = "token_unknown"

    def __init__(self) -> None:
        super().__init__("this is not a token of this registry; an operator creates one: thunderline token create")


class TokenExpired(Unauthenticated):
    """The token was good, until a moment that has passed."""

    code = "token_expired"

    def __init__(self, name: str) -> None:
        super().__init__(f"the token {name} has expired; an operator creates a new one")
        self.name = name


class TokenRevoked(Unauthenticated):
    """The token was good until somebody revoked it, or replaced it."""

    code = "token_revoked"

    def __init__(self, name: str) -> None:
        super().__init__(f"the token {name} was revoked; an operator creates a new one")
        self.name = name


class NotPermitted(Refused):
    """This actor may not do that."""

    code = "not_permitted"

    def __init__(self, actor: str, action: str) -> None:
        super().__init__(f"{actor} may not {action}")
        self.actor = actor
        self.action = action


class JoinRefused(Refused):
    """A join token cannot enrol this node; nothing was changed, and none of its uses was taken."""

    code = "join_refused"

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


class CsrfRefused(Refused):
    """A request with a session's cookie lacks what pages of other sites cannot send."""

    code = "csrf_refused"

    def __init__(self, header: str) -> None:
        super().__init__(f"with a session's cookie, unsafe requests need the header {header} and this server's Origin")
        self.header = header


class HostRefused(Refused):
    """The `Host` header names a host that this server does not answer for."""

    code = "host_refused"

    def __init__(self, host: str) -> None:
        super().__init__(f"Host: {host[:255]!r} is not a host of this server; add it to allowed_hosts if it should be")
        self.host = host


class OriginRefused(Refused):
    """A page of another origin tried to change something."""

    code = "origin_refused"

    def __init__(self, origin: str) -> None:
        super().__init__(f"Origin: {origin[:255]!r} is not this server; only its own pages may send unsafe requests")
        self.origin = origin


class WrongContentType(Refused):
    """The body is declared as something that this route does not read."""

    code = "wrong_content_type"

    def __init__(self, given: str, *, wanted: str = "application/json") -> None:
        super().__init__(f"Content-Type: is {given[:100]!r}, should be {wanted}")
        self.given = given
        self.wanted = wanted


class Conflict(ThunderlineError):
    """The request is well-formed but does not fit the present state; nothing was changed."""

    code = "conflict"


class Mismatch(Conflict):
    """The name is known with another value of a field that tells nodes apart."""

    code = "mismatch"

    def __init__(self, field: str, *, known: str, given: str) -> None:
        super().__init__(f"{field}: this name is registered with {known!r}, not {given!r}")
        self.field = field
        self.known = known
        self.given = given


class StaleIncarnation(Conflict):
    """The sender is not the node's present process."""

    code = "stale_incarnation"

    def __init__(self, *, given: int, current: int) -> None:
        super().__init__(f"incarnation: {given} is not the node's present process, which is {current}")
        self.field = "incarnation"
        self.given = given
        self.current = current


class StaleSequence(Conflict):
    """The beat's number lies too far behind to tell whether it was already taken."""

    code = "stale_sequence"

    def __init__(self, *, seq: int, highest: int) -> None:
        super().__init__(
            f"seq: {seq} lies too far behind {highest} to tell it from a repeated one; a restarted process "
            "announces itself with a new `instance`, in hello or at /online, and then counts from 1"
        )
        self.field = "seq"
        self.seq = seq
        self.highest = highest


class Superseded(Conflict):
    """A later process speaks for the node; this one does not come back."""

    code = "superseded"

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is another process now; stop one of the two, or give them names of their own")
        self.name = name


class SaidGoodbye(Conflict):
    """The node has left by its own word; what it held is closed."""

    code = "goodbye"

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} said goodbye; a new link or /online brings it back")
        self.name = name


class SessionTaken(Conflict):
    """The `session_id` names a session between other ends."""

    code = "session_taken"

    def __init__(self, session_id: str) -> None:
        super().__init__(
            f"session_id: {session_id[:255]!r} belongs to a session with another node; give this one its own"
        )
        self.field = "session_id"
        self.session_id = session_id


class SessionOver(Conflict):
    """The session is closed or failed; only opening it again changes it."""

    code = "session_over"

    def __init__(self, session_id: str, *, status: str) -> None:
        super().__init__(f"session {session_id[:255]!r} is {status}; open it again with POST /api/sessions")
        self.session_id = session_id
        self.status = status


class EndNotUp(Conflict):
    """A session cannot be established with a node that is not there."""

    code = "end_not_up"

    def __init__(self, name: str, *, status: str) -> None:
        super().__init__(f"{name} is {status}; a session with it can be established once it is back")
        self.name = name
        self.status = status


class LiveLink(Conflict):
    """The node holds a link; deregistering it would cut it off."""

    code = "live_link"

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} holds a live link; stop it first, or pass force=true to cut it off")
        self.name = name


class PreconditionFailed(Conflict):
    """The node is not, or no longer, as `If-Match` says. Source: RFC 9110, section 13.1.1."""

    code = "precondition_failed"

    def __init__(self, name: str, *, revision: int, tag: str) -> None:
        super().__init__(f"If-Match: {name} is at revision {revision}, its tag is {tag}; read it again and decide anew")
        self.field = "If-Match"
        self.name = name
        self.revision = revision
        self.tag = tag


class BatchRefused(Conflict):
    """Of a batch that is done whole or not at all, items cannot be done; `errors` says which, by their index."""

    code = "batch_refused"

    def __init__(self, errors: Mapping[int, ThunderlineError], *, size: int) -> None:
        first = min(errors)
        super().__init__(f"{len(errors)} of {size} items cannot be done, so none was; item {first}: {errors[first]}")
        self.errors = errors
        self.size = size


class NotDone(Conflict):
    """An item that could be done, of a batch whose other items could not."""

    code = "not_done"

    def __init__(self) -> None:
        super().__init__("nothing is wrong with this item; the batch was refused for others")


class GroupInUse(Conflict):
    """The group has members or groups in it; deleting it would change them."""

    code = "group_in_use"

    def __init__(self, name: str, *, members: int, subgroups: int) -> None:
        super().__init__(
            f"{name} has {members} members and {subgroups} groups in it; empty it first, or pass force=true: the "
            "members then leave it, and the groups move up"
        )
        self.name = name
        self.members = members
        self.subgroups = subgroups


class TokenNameTaken(Conflict):
    """A token of that name is still good; names tell tokens apart where people read of them."""

    code = "token_name_taken"

    def __init__(self, name: str) -> None:
        super().__init__(f"name: a token {name!r} is in use; revoke it first, or choose another name")
        self.field = "name"
        self.name = name


class AlertOver(Conflict):
    """The alert fires no longer: there is nothing to take on."""

    code = "alert_over"

    def __init__(self, alert_id: str) -> None:
        super().__init__(f"the alert {alert_id} was resolved already")
        self.alert_id = alert_id


class GroupCycle(Conflict):
    """The group would be inside itself; `chain` leads from it upwards to where it comes again."""

    code = "group_cycle"

    def __init__(self, chain: Sequence[str]) -> None:
        text = " in ".join(chain)
        super().__init__(f"parent: {text}: a group cannot be inside itself")
        self.field = "parent"
        self.chain = text


class CursorGone(ThunderlineError):
    """The log cannot be continued from this cursor: list again, then watch from the list's own cursor."""

    code = "cursor_gone"

    def __init__(self, cursor: str, *, why: str, field: str = "since") -> None:
        super().__init__(f"{field}: {why}; list again and continue from the new cursor")
        self.field = field
        self.why = why
        self.cursor = cursor


class Unavailable(ThunderlineError):
    """Not now; the same call may go through after `retry_after_s` seconds. Nothing was changed."""

    code = "unavailable"
    retryable = True

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(f"{message}; retry in {retry_after_s:g} s")
        self.retry_after_s = retry_after_s


class Overloaded(Unavailable):
    """More is queued than the registry keeps in memory."""

    code = "overloaded"

    def __init__(self, lane: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(f"the {lane} lane is full", retry_after_s=retry_after_s)
        self.lane = lane


class StoreUnavailable(Unavailable):
    """The store cannot take writes at present; nothing of this call was written."""

    code = "store_unavailable"

    def __init__(self, reason: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(f"the store is away ({reason})", retry_after_s=retry_after_s)
        self.reason = reason


class RateLimited(Unavailable):
    """More came from this caller than is taken from one."""

    code = "rate_limited"

    def __init__(self, limit: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(f"more than {limit}", retry_after_s=retry_after_s)
        self.limit = limit


class NoHello(Unavailable):
    """The first frame of a link did not come in time; a new connection may say it."""

    code = "no_hello"

    def __init__(self, *, within_s: float) -> None:
        super().__init__(f"no hello came within {within_s:g} s of connecting", retry_after_s=1.0)
        self.within_s = within_s


class NameInUse(Unavailable):
    """Another process of this name is alive, and the two have been taking the name from each other."""

    code = "name_in_use"

    def __init__(self, name: str, *, retry_after_s: float) -> None:
        super().__init__(
            f"{name} is a process that is alive and has just taken the name over from another; stop it, or choose "
            "another name",
            retry_after_s=retry_after_s,
        )
        self.name = name


class SessionEnded(Unavailable):
    """The registry has ended the session of this link; a new handshake opens another."""

    code = "session_ended"

    def __init__(self, session_id: str) -> None:
        super().__init__(f"session {session_id} was ended", retry_after_s=0.5)
        self.session_id = session_id


class IdempotencyKeyInUse(Unavailable):
    """A request with this key is under way; its answer is kept once it is done."""

    code = "idempotency_key_in_use"

    def __init__(self) -> None:
        super().__init__("Idempotency-Key: a request with this key is under way", retry_after_s=1.0)
        self.field = "Idempotency-Key"


class ShuttingDown(Unavailable):
    """The registry is being closed and takes nothing new."""

    code = "shutting_down"

    def __init__(self) -> None:
        super().__init__("the registry is shutting down")


class OutcomeUnknown(ThunderlineError):
    """The store was lost in the middle of a commit: the write may or may not be there. Look before repeating it."""

    code = "outcome_unknown"

    def __init__(self, reason: str) -> None:
        super().__init__(f"the commit's outcome is unknown ({reason}); read the node before repeating the call")
        self.reason = reason
        self.retry_after_s = 1.0
        """When it is worth looking, in seconds."""


class StoreFault(ThunderlineError):
    """Something between a store and its user that no caller of the registry can mend."""

    code = "store_fault"


class ContentRejected(StoreFault):
    """The store refuses the batch for its content; nothing of the batch was written."""

    code = "content_rejected"

    def __init__(self, reason: str) -> None:
        super().__init__(f"the store refuses this content: {reason}")
        self.reason = reason


class StoreLocked(StoreFault):
    """Another process owns the database."""

    code = "store_locked"

    def __init__(self, location: str, *, owner: str) -> None:
        super().__init__(
            f"{location} belongs to {owner}; stop that process, talk to its server, or give this one another --store"
        )
        self.location = location
        self.owner = owner


class StoreIncompatible(StoreFault):
    """The database, or the engine, is one that this version cannot work with."""

    code = "store_incompatible"


class UpkeepFault(StoreFault):
    """A database could not be looked at, copied or restored; nothing was changed."""

    code = "upkeep_fault"


class NoDatabase(UpkeepFault):
    """There is no database in this place."""

    code = "no_database"

    def __init__(self, location: str) -> None:
        super().__init__(f"there is no database at {location}; 'thunderline serve' makes one, or pass another --store")
        self.location = location


class FileInTheWay(UpkeepFault):
    """What should be written would overwrite something, which nobody allowed."""

    code = "file_in_the_way"

    def __init__(self, file: str, *, hint: str) -> None:
        super().__init__(f"{file} exists; {hint}")
        self.file = file
        self.hint = hint


class NotABackup(UpkeepFault):
    """The file is not one that this version can restore."""

    code = "not_a_backup"

    def __init__(self, file: str, *, problem: str) -> None:
        super().__init__(f"{file} cannot be restored: {problem}")
        self.file = file
        self.problem = problem


class UpkeepFailed(UpkeepFault):
    """The disk, or the system, does not let it be done."""

    code = "upkeep_failed"

    def __init__(self, place: str, *, problem: str) -> None:
        super().__init__(f"{place}: {problem}")
        self.place = place
        self.problem = problem


class WatchCut(ThunderlineError):
    """The watcher fell behind by more than its backlog and was cut off; it resumes from `resume_from`."""

    code = "watch_cut"
    retryable = True

    def __init__(self, *, backlog: int, resume_from: int) -> None:
        super().__init__(f"more than {backlog} events behind; resume with since={resume_from}")
        self.backlog = backlog
        self.resume_from = resume_from


class WatchStalled(ThunderlineError):
    """The watcher took nothing of what it was sent for too long; it resumes from `resume_from`."""

    code = "watch_stalled"
    retryable = True

    def __init__(self, *, silent_s: float, resume_from: int) -> None:
        super().__init__(f"nothing was read for {silent_s:g} s; resume with since={resume_from}")
        self.silent_s = silent_s
        self.resume_from = resume_from


class UndeclaredEvent(ThunderlineError):
    """An event that the taxonomy does not declare, or not like this: a bug of ours."""

    code = "undeclared_event"

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"event {name!r} {problem}; see flow/taxonomy.py")
        self.name = name


class SettingsError(ThunderlineError):
    """A setting that cannot be used."""

    code = "bad_setting"

    def __init__(self, field: str, problem: str, *, source: str) -> None:
        super().__init__(f"{field} ({source}): {problem}")
        self.field = field
        self.problem = problem
        self.source = source
