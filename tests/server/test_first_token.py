"""The token of a first start: who can read it, and what becomes of it where it cannot be written."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from thunderline.core.access import new_secret, token_text
from thunderline.core.errors import SettingsError
from thunderline.core.ids import TokenId, new_uuid7
from thunderline.core.settings import Settings
from thunderline.link.actor import LOCAL_OPERATOR
from thunderline.server import open_server


def settings_of(tmp_path: Path, **more: str) -> Settings:
    return Settings(port=0, store=f"sqlite:///{tmp_path / 'data' / 't.db'}", auth=True, **more)


async def test_first_start_writes_a_token_for_its_user_alone_and_later_ones_write_none(tmp_path: Path) -> None:
    file = tmp_path / "data" / "thunderline-admin.token"
    async with open_server(settings_of(tmp_path)) as server:
        assert server.admin_token_file == file
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        actor = server.registry.access.authenticate(file.read_text().strip(), address=None)
        assert "admin" in actor.scopes
    before = file.read_bytes()
    async with open_server(settings_of(tmp_path)) as server:
        assert server.admin_token_file is None
    assert file.read_bytes() == before


async def test_without_auth_no_token_is_written(tmp_path: Path) -> None:
    async with open_server(Settings(port=0, store=f"sqlite:///{tmp_path / 't.db'}")) as server:
        assert server.admin_token_file is None
        assert server.registry.tokens.list_tokens(actor=LOCAL_OPERATOR, limit=9) == ([], False)
    assert not (tmp_path / "thunderline-admin.token").exists()


@pytest.mark.parametrize("in_the_way", ["file", "link to nowhere", "no folder"])
async def test_token_that_cannot_be_written_is_not_made_and_the_start_fails(tmp_path: Path, in_the_way: str) -> None:
    file = tmp_path / "named.token"
    match in_the_way:
        case "file":
            file.write_text("mine")
        case "link to nowhere":
            file.symlink_to(tmp_path / "nowhere")
        case "no folder":
            (tmp_path / "flat").write_text("")
            file = tmp_path / "flat" / "token"
    with pytest.raises(SettingsError) as refused:
        async with open_server(settings_of(tmp_path, admin_token_file=str(file))):
            pass
    assert refused.value.field == "admin_token_file"
    assert not (tmp_path / "nowhere").exists()
    if in_the_way == "file":
        assert file.read_text() == "mine"
    other = tmp_path / "other.token"
    async with open_server(settings_of(tmp_path, admin_token_file=str(other))) as server:
        assert server.admin_token_file == other
        tokens, _ = server.registry.tokens.list_tokens(actor=LOCAL_OPERATOR, revoked=True, limit=9)
        assert [token.revoked_at for token in tokens] == [None]


async def test_a_file_whose_token_is_good_for_nothing_is_written_anew(tmp_path: Path) -> None:
    file = tmp_path / "admin.token"
    # As a crash between file and commit leaves it.
    file.write_text(token_text(TokenId(new_uuid7()), new_secret()) + "\n")
    async with open_server(settings_of(tmp_path, admin_token_file=str(file))) as server:
        assert server.admin_token_file == file
        first = server.registry.access.token_of(file.read_text().strip())
        await server.registry.tokens.revoke(first.id, actor=LOCAL_OPERATOR)
    async with open_server(settings_of(tmp_path, admin_token_file=str(file))) as server:
        assert server.admin_token_file == file
        assert server.registry.access.token_of(file.read_text().strip()).id != first.id


async def test_a_server_that_had_tokens_starts_also_where_no_new_one_can_be_written(tmp_path: Path) -> None:
    file = tmp_path / "admin.token"
    async with open_server(settings_of(tmp_path, admin_token_file=str(file))) as server:
        await server.registry.tokens.revoke("first-admin", actor=LOCAL_OPERATOR)
    file.write_text("mine")
    async with open_server(settings_of(tmp_path, admin_token_file=str(file))) as server:
        assert server.admin_token_file is None
    assert file.read_text() == "mine"
