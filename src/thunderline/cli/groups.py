"""`thunderline groups`, and `thunderline group` with what changes one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Final, TypeVar

import msgspec
import typer
from rich.text import Text
from rich.tree import Tree

from thunderline.cli.options import AsJson, Ca, NodeRef, Server, TokenFile, check_group
from thunderline.cli.remote import Remote
from thunderline.cli.screen import cell, note, on_terminal, open_console, write_json, write_line, write_rows
from thunderline.client import calls
from thunderline.client.answers import CountedGroup, GroupPage
from thunderline.core.records import GroupType

T = TypeVar("T")

_PIPED_COLUMNS: Final = ("NAME", "GROUP_TYPE", "PARENT", "MEMBERS")

GroupRef = Annotated[
    str, typer.Argument(metavar="GROUP", callback=check_group, show_default=False, help="A group's name or id.")
]

group = typer.Typer(
    name="group", help="Create and delete groups, and say which nodes are in them.", no_args_is_help=True
)


def groups(
    *,
    group_type: Annotated[GroupType | None, typer.Option("--type", help="Only groups of this type.")] = None,
    parent: Annotated[
        str | None, typer.Option(metavar="GROUP", callback=check_group, help="Only groups directly in this one.")
    ] = None,
    server: Server,
    token_file: TokenFile = None,
    ca: Ca = None,
    as_json: AsJson = False,
) -> None:
    """List groups, and how many nodes are themselves members of each.

    On a terminal each group stands below the one it is in. In a pipe the list is tab-separated, by name; its first line
    names the columns, which are fields of the API. The nodes of a group: thunderline nodes --group GROUP.
    """
    with Remote(server, token_file=token_file, ca=ca, warn=note) as remote:
        if as_json:
            write_json(_as_document(_pages(remote, msgspec.Raw, group_type, parent)))
            return
        found = [each for page in _pages(remote, CountedGroup, group_type, parent) for each in page.groups]
    if not on_terminal():
        write_rows(_PIPED_COLUMNS, [(each.name, each.group_type, each.parent, each.members) for each in found])
    else:
        for tree in _trees(found):
            open_console().print(tree)
    if not found:
        filtered = group_type is not None or parent is not None
        note("no group matches" if filtered else "there are no groups; 'thunderline group create NAME' creates one")


@group.command()
def create(
    *,
    name: Annotated[
        str, typer.Argument(metavar="NAME", callback=check_group, show_default=False, help="The group's name.")
    ],
    group_type: Annotated[
        GroupType | None, typer.Option("--type", help="What the group stands for.", show_default="custom")
    ] = None,
    parent: Annotated[
        str | None, typer.Option(metavar="GROUP", callback=check_group, help="The group that it is in, by name.")
    ] = None,
    server: Server,
    token_file: TokenFile = None,
    ca: Ca = None,
    as_json: AsJson = False,
) -> None:
    """Create a group; one that is there already is left as it is, and differing options are refused."""
    given = {"name": name, "group_type": group_type, "parent": parent}
    call = calls.create_group({key: value for key, value in given.items() if value is not None})
    with Remote(server, token_file=token_file, ca=ca, warn=note) as remote:
        if as_json:
            write_json(bytes(remote.ask(_raw(call))))
            return
        made = remote.ask(call).group
    write_line(f"{made.name}: {made.group_type}{'' if made.parent is None else f', in {made.parent}'}")


@group.command()
def remove(
    *,
    ref: GroupRef,
    force: Annotated[
        bool, typer.Option("--force", help="Also when it is in use: its members leave it, the groups in it move up.")
    ] = False,
    server: Server,
    token_file: TokenFile = None,
    ca: Ca = None,
) -> None:
    """Delete a group."""
    with Remote(server, token_file=token_file, ca=ca, warn=note) as remote:
        remote.ask(calls.remove_group(ref, force=force))
    write_line(f"deleted {ref}")


@group.command()
def join(
    *,
    ref: GroupRef,
    node: NodeRef,
    server: Server,
    token_file: TokenFile = None,
    ca: Ca = None,
    as_json: AsJson = False,
) -> None:
    """Let a node be a member of a group."""
    call = calls.add_to_group(node, ref)
    with Remote(server, token_file=token_file, ca=ca, warn=note) as remote:
        if as_json:
            write_json(bytes(remote.ask(_raw(call))))
            return
        joined = remote.ask(call).node
    write_line(f"{joined.name} is in {', '.join(joined.groups)}")


@group.command()
def leave(*, ref: GroupRef, node: NodeRef, server: Server, token_file: TokenFile = None, ca: Ca = None) -> None:
    """Take a node out of a group of which it is itself a member."""
    with Remote(server, token_file=token_file, ca=ca, warn=note) as remote:
        remote.ask(calls.remove_from_group(node, ref))
    write_line(f"{node} is no longer in {ref}")


def _raw(call: calls.Call[T]) -> calls.Call[msgspec.Raw]:
    return calls.Call(call.method, call.path, msgspec.Raw, query=call.query, body=call.body)


def _pages(remote: Remote, kind: type[T], group_type: GroupType | None, parent: str | None) -> Iterator[GroupPage[T]]:
    cursor: str | None = None
    while True:
        call = calls.list_groups(group_type=group_type, parent=parent, cursor=cursor)
        page = remote.ask(calls.Call(call.method, call.path, GroupPage[kind], query=call.query))  # type: ignore[valid-type]  # a type argument at run time
        yield page
        cursor = page.next_cursor
        if cursor is None:
            return


def _as_document(pages: Iterator[GroupPage[msgspec.Raw]]) -> bytes:
    found = list(pages)
    # Pages of different moments: whoever watches from the first one's revision misses nothing of the later ones.
    merged = [each for page in found for each in page.groups]
    return msgspec.json.encode({"groups": merged, "revision": found[0].revision})


def _trees(found: Sequence[CountedGroup]) -> Iterator[Tree]:
    """The groups, each below its parent where that is among them."""
    trees = {each.name: Tree(_label(each), guide_style="dim") for each in found}
    for each in found:
        if each.parent in trees:
            trees[each.parent].children.append(trees[each.name])
    return (trees[each.name] for each in found if each.parent not in trees)


def _label(each: CountedGroup) -> Text:
    count = f"{each.members} {'member' if each.members == 1 else 'members'}"
    return Text.assemble((cell(each.name), "bold"), (f"  {each.group_type}, {count}", "dim"))
