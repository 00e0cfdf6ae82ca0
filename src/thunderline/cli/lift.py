"""`thunderline lift`."""

from __future__ import annotations

import msgspec

from thunderline.cli.lookup import looking_up
from thunderline.cli.options import AsJson, Ca, NodeRef, Server, TokenFile
from thunderline.cli.remote import Remote
from thunderline.cli.screen import note, write_json, write_line
from thunderline.client.answers import NodeAnswer, PresentNode
from thunderline.client.calls import node_path


def lift(*, ref: NodeRef, server: Server, token_file: TokenFile = None, ca: Ca = None, as_json: AsJson = False) -> None:
    """Lift a node's override, so that its observed status shows.

    An override is what an operator laid over the status. Without one nothing happens, and that is no error.
    """
    path = f"{node_path(ref)}/override"
    with Remote(server, token_file=token_file, ca=ca, warn=note) as remote, looking_up(remote, ref):
        if as_json:
            write_json(bytes(remote.delete(path, msgspec.Raw)))
            return
        before = remote.get(node_path(ref), NodeAnswer).node
        after = remote.delete(path, NodeAnswer).node
    write_line(_told(before, after))


def _told(before: PresentNode, after: PresentNode) -> str:
    now = f"{after.name} is {after.status}: {after.status_reason}"
    if before.override is None:
        return f"there was no override; {now}"
    return f"lifted {before.override.status} ({before.override.reason}) by {before.override.by}; {now}"
