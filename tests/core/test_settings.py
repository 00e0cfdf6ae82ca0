"""Settings: where each comes from, which wins, and what is said of one that cannot be used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from thunderline.core.errors import SettingsError
from thunderline.core.settings import (
    ENV_PREFIX,
    Settings,
    ca_file,
    load_settings,
    server_url,
    setting_descriptions,
    token_file,
    unknown_environ,
)

Load = Callable[..., Settings]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """`load_settings` from the text of a file, the variables without their prefix, and the flags."""

    def loaded(toml: str | None = None, env: dict[str, str] | None = None, **flags: object) -> Settings:
        file = None
        if toml is not None:
            file = tmp_path / "thunderline.toml"
            file.write_text(toml, encoding="utf-8")
        environ = {ENV_PREFIX + name: value for name, value in (env or {}).items()}
        return load_settings(file=file, environ=environ, flags=flags)

    return loaded


def refused(load: Load, *args: Any, **flags: Any) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        load(*args, **flags)
    error = caught.value
    assert error.field in str(error)
    assert error.source in str(error)
    assert error.problem in str(error)
    return error


def test_nothing_given_is_the_default_of_each(load: Load) -> None:
    assert load() == Settings()


def test_variable_beats_file_and_flag_beats_variable(load: Load) -> None:
    toml = "port = 1\nheartbeat_interval_s = 1\ncommit_max = 1"
    found = load(toml, {"HEARTBEAT_INTERVAL_S": "2", "COMMIT_MAX": "2"}, commit_max=3)
    assert (found.port, found.heartbeat_interval_s, found.commit_max) == (1, 2.0, 3)


def test_flag_that_is_none_and_variable_that_is_empty_count_as_not_given(load: Load) -> None:
    assert load("port = 1", {"PORT": ""}, port=None).port == 1


def test_file_is_named_by_a_variable(tmp_path: Path) -> None:
    file = tmp_path / "other.toml"
    file.write_text("port = 7")
    assert load_settings(environ={"THUNDERLINE_CONFIG": str(file)}).port == 7
    nearer = tmp_path / "nearer.toml"
    nearer.write_text("port = 8")
    assert load_settings(file=nearer, environ={"THUNDERLINE_CONFIG": str(file)}).port == 8


def test_process_environment_is_read_when_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THUNDERLINE_PORT", "4567")
    assert load_settings().port == 4567


def test_list_in_a_variable_is_separated_by_commas(load: Load) -> None:
    assert load(env={"ALLOWED_HOSTS": "a.example, b.example ,,"}).allowed_hosts == ("a.example", "b.example")
    assert load('allowed_hosts = ["a", "b"]').allowed_hosts == ("a", "b")


@pytest.mark.parametrize("name", ["node_name", "host", "store"])
def test_text_that_looks_like_null_stays_text(load: Load, name: str) -> None:
    assert getattr(load(env={name.upper(): "null"}), name) == "null"


@pytest.mark.parametrize(
    ("toml", "env", "flags", "field", "source"),
    [
        ("port = 99999", {}, {}, "port", "thunderline.toml"),
        ("port = 1", {"PORT": "99999"}, {}, "port", "environment"),
        ("port = 1", {"PORT": "2"}, {"port": 99999}, "port", "flag"),
        ("port = 99999", {}, {"port": 1}, "port", "thunderline.toml"),
    ],
)
def test_error_names_the_setting_and_who_gave_it(
    load: Load, toml: str, env: dict[str, str], flags: dict[str, object], field: str, source: str
) -> None:
    error = refused(load, toml, env, **flags)
    assert error.field == field
    assert error.source.endswith(source)


@pytest.mark.parametrize(
    ("toml", "field", "problem"),
    [
        ("port = true", "port", "expected `int`"),
        ('port = "80"', "port", "expected `int`"),
        ("port = -1", "port", ">= 0"),
        ("heartbeat_interval_s = nan", "heartbeat_interval_s", ">= 0.1"),
        ("heartbeat_interval_s = inf", "heartbeat_interval_s", "<= 3600.0"),
        ("deadline_intervals = 1.4", "deadline_intervals", ">= 1.5"),
        ('host = ""', "host", "length >= 1"),
        ('log_level = "loud"', "log_level", "loud"),
        ('allowed_hosts = "a"', "allowed_hosts", "expected `array`"),
        ('node_name = "a b"', "node_name", "may hold only letters, digits"),
        ('node_name = "0197c000-0000-7000-8000-000000000000"', "node_name", "must not be a UUID"),
        ("prot = 1", "prot", "is not a setting; did you mean port?"),
        ("heartbeat_interval = 1", "heartbeat_interval", "did you mean heartbeat_interval_s?"),
        ("[server]\nport = 1", "server", "is not a setting"),
        ("zzz = 1", "zzz", "is not a setting"),
        ("port = ", "config", "is not TOML"),
        ("port = 1\nport = 2", "config", "is not TOML"),
    ],
)
def test_what_cannot_be_used_is_explained(load: Load, toml: str, field: str, problem: str) -> None:
    error = refused(load, toml)
    assert error.field == field
    assert problem in error.problem
    assert "regex" not in error.problem


def test_setting_that_resembles_none_is_given_no_advice(load: Load) -> None:
    assert "did you mean" not in refused(load, "zzz = 1").problem


@pytest.mark.parametrize("value", ["x", "", "1.5"])
def test_variable_of_the_wrong_kind_is_refused(load: Load, value: str) -> None:
    if value:
        assert refused(load, None, {"PORT": value}).field == "port"
    assert refused(load, None, {"HEARTBEAT_INTERVAL_S": "nan"}).field == "heartbeat_interval_s"


def test_variable_that_is_not_unicode_is_refused(load: Load) -> None:
    # What os.environ gives for bytes that are not UTF-8.
    assert refused(load, None, {"PORT": "\udcff"}).source == "environment"


def test_kubernetes_service_link_is_told_apart_from_a_port(load: Load) -> None:
    error = refused(load, None, {"PORT": "tcp://10.0.0.7:4040"})
    assert "enableServiceLinks" in error.problem


@pytest.mark.parametrize("name", ["missing.toml", "."])
def test_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match="cannot be read") as caught:
        load_settings(file=tmp_path / name, environ={})
    assert caught.value.source == str(tmp_path / name)


def test_file_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    (tmp_path / "latin.toml").write_bytes(b'host = "\xff"')
    with pytest.raises(SettingsError, match="is not TOML"):
        load_settings(file=tmp_path / "latin.toml", environ={})


def test_variables_that_are_no_settings_are_listed() -> None:
    environ = dict.fromkeys(
        ["THUNDERLINE_PROT", "THUNDERLINE_A", "THUNDERLINE_PORT", "THUNDERLINE_SERVER", "THUNDERLINE_CONFIG", "PATH"],
        "x",
    )
    assert unknown_environ(environ) == ["THUNDERLINE_A", "THUNDERLINE_PROT"]


def test_clients_files_are_those_of_the_variables_or_none() -> None:
    assert token_file({}) is ca_file({}) is None
    assert token_file({"THUNDERLINE_TOKEN_FILE": ""}) is None
    environ = {"THUNDERLINE_TOKEN_FILE": "/run/token", "THUNDERLINE_CA": "/etc/ca.pem"}
    assert (token_file(environ), ca_file(environ)) == (Path("/run/token"), Path("/etc/ca.pem"))
    assert unknown_environ(environ) == []


def test_server_url_is_the_variable_or_loopback() -> None:
    assert server_url({}) == "http://127.0.0.1:4040"
    assert server_url({"THUNDERLINE_SERVER": ""}) == "http://127.0.0.1:4040"
    assert server_url({"THUNDERLINE_SERVER": "https://registry"}) == "https://registry"


def test_every_setting_is_described() -> None:
    rows = setting_descriptions()
    assert [name for name, _, _ in rows] == list(Settings.__struct_fields__)
    for name, description, _ in rows:
        assert len(description) > 20, name
        assert description.endswith((".", ")")), name


def test_every_setting_with_a_duration_or_size_names_its_unit() -> None:
    for field in msgspec.structs.fields(Settings):
        if any(word in field.name for word in ("interval", "timeout", "after")) and field.name != "deadline_intervals":
            assert field.name.endswith("_s")


def test_every_default_is_within_its_own_bounds() -> None:
    assert msgspec.convert(msgspec.to_builtins(Settings()), Settings) == Settings()


LISTS = ("allowed_hosts", "behind_proxy")
TEXTS = ("node_name", "alerts_rules", "admin_token_file", "tls_cert", "tls_key")


@pytest.mark.parametrize("name", [name for name in Settings.__struct_fields__ if name not in LISTS])
def test_every_setting_can_come_from_a_variable(load: Load, name: str) -> None:
    value = getattr(Settings(), name)
    if value is None:
        value = "somebody" if name in TEXTS else 12.5
    assert getattr(load(env={name.upper(): str(value)}), name) == value


@pytest.mark.parametrize("name", LISTS)
def test_a_list_stands_in_one_variable_separated_by_commas(load: Load, name: str) -> None:
    assert getattr(load(env={name.upper(): "10.0.0.1, 10.0.1.0/24,"}), name) == ("10.0.0.1", "10.0.1.0/24")


@pytest.mark.parametrize("name", ["admin_token_file", "tls_cert", "tls_key"])
def test_a_file_is_never_named_by_nothing(load: Load, name: str) -> None:
    with pytest.raises(SettingsError, match=name):
        load(**{name: ""})
