"""Files that hold a token: whose they may be, and that a credential is whole in its file or not there."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from thunderline.client.credential import (
    CredentialFile,
    CredentialNotKept,
    default_credential_file,
    read_token_file,
)
from thunderline.core.access import new_secret, token_text
from thunderline.core.errors import InvalidInput
from thunderline.core.ids import TokenId, new_uuid7


def a_token() -> str:
    return token_text(TokenId(new_uuid7()), new_secret())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "down" / "worker-1.token"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_credential_reads_back_from_a_file_of_its_owner_alone(file: Path) -> None:
    kept = CredentialFile(file)
    assert kept.read() is None
    for text in (a_token(), a_token()):
        kept.keep(text)
        assert kept.read() == text
    assert mode(file) == 0o600
    assert mode(file.parent) == 0o700
    assert list(file.parent.iterdir()) == [file]


def test_it_is_on_the_disk_before_it_has_its_name(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    sync, replace = os.fsync, Path.replace

    def fsync(descriptor: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        done.append("sync folder" if is_folder else "sync file")
        sync(descriptor)

    def renaming(self: Path, target: Path) -> Path:
        done.append("rename")
        assert mode(self) == 0o600
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", renaming)
    CredentialFile(file).keep(a_token())
    assert done == ["sync file", "rename", "sync folder"]


def test_one_that_cannot_be_written_leaves_the_one_before(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, before = CredentialFile(file), a_token()
    kept.keep(before)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CredentialNotKept, match="No space left"):
        kept.keep(a_token())
    monkeypatch.undo()
    assert kept.read() == before
    assert list(file.parent.iterdir()) == [file]


def test_a_place_that_takes_no_file_is_known_before_it_is_needed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InvalidInput) as refused:
        CredentialFile(tmp_path / "file" / "worker-1.token").prepare()
    assert refused.value.field == "credential_file"
    prepared = tmp_path / "folder" / "worker-1.token"
    CredentialFile(prepared).prepare()
    assert list(prepared.parent.iterdir()) == []


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o620, 0o666])
def test_a_file_that_others_may_read_or_write_is_refused_with_what_to_do(tmp_path: Path, bits: int) -> None:
    file, text = tmp_path / "token", a_token()
    file.write_text(text, encoding="utf-8")
    file.chmod(bits)
    with pytest.raises(InvalidInput) as refused:
        read_token_file(file, field="token_file")
    assert f"chmod 600 {file}" in str(refused.value)
    assert text not in str(refused.value)
    file.chmod(0o400)
    assert read_token_file(file, field="token_file") == text


@pytest.mark.parametrize("content", [b"", b"hunter2\n", b"\xff\xfe", b"tl_x", b"x" * 10_000])
def test_what_is_no_token_is_not_repeated(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    file.chmod(0o600)
    with pytest.raises(InvalidInput, match="holds no token") as refused:
        read_token_file(file, field="token_file")
    assert "hunter2" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"token_file: .*nowhere.* cannot be read: No such file"):
        read_token_file(tmp_path / "nowhere", field="token_file")


def test_each_node_and_server_has_a_file_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    asked = [
        ("http://127.0.0.1:4040", "a"),
        ("http://127.0.0.1:4041", "a"),
        ("https://registry.example", "a"),
        ("https://registry.example/below", "a"),
        ("https://registry.example", "b"),
        ("https://[::1]:4040", "../../b"),
        ("https://registry.example", "n" * 255),
        ("https://registry.example", "n" * 254 + "m"),
    ]
    files = [default_credential_file(server, name) for server, name in asked]
    assert len(set(files)) == len(asked)
    for file in files:
        assert file.is_relative_to(tmp_path)
        assert ".." not in file.parts
        assert len(file.name) <= 255
    same = {default_credential_file(url, "a") for url in ("https://Registry.example:443/", "wss://registry.example")}
    assert len(same) == 1
