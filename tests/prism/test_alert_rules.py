"""Rules and sinks in TOML: over the defaults, and every mistake named."""

from __future__ import annotations

from pathlib import Path

import pytest

from thunderline.core.alerts import Matcher, Severity, parse_matcher
from thunderline.core.errors import SettingsError
from thunderline.prism.alerts.rules import (
    DEFAULT_RULES,
    AlertConfig,
    Kind,
    LogSinkConfig,
    WebhookConfig,
    load_config,
    read_config,
)
from thunderline.prism.alerts.sinks import read_secret
from thunderline.testing.records import make_node


def test_without_a_file_the_defaults_hold() -> None:
    assert load_config(None) == AlertConfig()
    assert read_config("", source="x") == AlertConfig()
    assert {rule.kind for rule in DEFAULT_RULES} == set(Kind)
    assert len({rule.name for rule in DEFAULT_RULES}) == len(DEFAULT_RULES)


def test_a_file_says_what_differs(tmp_path: Path) -> None:
    file = tmp_path / "alerts.toml"
    file.write_text("""
        after_start = 30
        [rules.node-offline]
        for = "10m"
        group_above = "never"
        [rules.node-flapping]
        enabled = false
        [rules.controllers]
        kind = "node_offline"
        for = "1m"
        severity = "info"
        nodes = { role = "controller", name = "registry@*" }
        labels = { team = "platform" }
        [sinks.log]
        type = "log"
        [sinks.pager]
        type = "webhook"
        url = "https://pager.example/hook"
    """)
    config = load_config(str(file))
    rules = {rule.name: rule for rule in config.rules}
    assert rules.keys() == {rule.name for rule in DEFAULT_RULES} - {"node-flapping"} | {"controllers"}
    assert (rules["node-offline"].for_s, rules["node-offline"].group_above) == (600, None)
    own = rules["controllers"]
    assert (own.kind, own.for_s, own.severity, own.group_above) == (Kind.NODE_OFFLINE, 60, Severity.INFO, 5)
    assert own.labels == {"team": "platform"}
    assert own.nodes.holds(make_node(1, name="registry@a", role="controller"))
    assert not own.nodes.holds(make_node(1, name="registry@a"))
    assert not own.nodes.holds(make_node(1, role="controller"))
    assert config.sinks == {"log": LogSinkConfig(), "pager": WebhookConfig(url="https://pager.example/hook")}
    assert config.after_start_s == 30


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("rules = 3", "rules"),
        ("x = 3", "x: is not a known field"),
        ("[rules.node-offline", "is not TOML"),
        ("[rules.node-offline]\nfor = '5 minutes'", "rules.node-offline.for"),
        ("[rules.node-offline]\nforr = '5m'", "forr"),
        ("[rules.node-offline]\nwindow = '5m'", "rules.node-offline.window: is of no use"),
        ("[rules.node-offline]\nkind = 'flapping'", "rules.node-offline: is of the kind node_offline"),
        ("[rules.node-offline]\nlabels = { node = 'x' }", "rules.node-offline.labels: node is a label"),
        ("[rules.mine]\nfor = '5m'", "rules.mine: needs a kind"),
        ("[rules.mine]\nenabled = false", "rules.mine: is no rule"),
        ("[rules.mine]\nkind = 'mine'", "kind"),
        ("[rules.store-slow]\nfor = '999d'", "rules.store-slow.for: should be between"),
        ("[sinks.a]\ntype = 'mail'", "sinks"),
        ("[sinks.a]\ntype = 'webhook'\nurl = 'ftp://x'", "url"),
        ("[sinks.a]\ntype = 'webhook'\nurl = 'http://x'\ntimeout = '0s'", "sinks.a.timeout"),
    ],
)
def test_a_mistake_is_named(text: str, named: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_config(text, source="alerts.toml")
    assert named in str(caught.value)
    assert "alerts.toml" in str(caught.value)


def test_a_secret_that_is_missing_or_short_is_refused_and_never_shown(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        read_secret(str(tmp_path / "none"))
    (tmp_path / "short").write_text("tooshort\n")
    with pytest.raises(SettingsError) as caught:
        read_secret(str(tmp_path / "short"))
    assert "tooshort" not in str(caught.value)
    (tmp_path / "good").write_text("0123456789abcdef\n")
    assert read_secret(str(tmp_path / "good")) == b"0123456789abcdef"


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("zone=eu-1", True),
        ("zone=eu", False),
        ("zone~eu-*", True),
        ("zone~eu", False),
        ("zone!=eu-1", False),
        ("zone!~us-*", True),
        ("rack=", True),
        ("rack!=", False),
        ("zone~[e]u-1", False),
    ],
)
def test_matchers(text: str, holds: bool) -> None:
    matcher = parse_matcher(text)
    assert matcher is not None
    assert str(matcher) == text
    assert matcher.holds({"zone": "eu-1"}) is holds


@pytest.mark.parametrize("text", ["", "zone", "=x", "1=2", "a b=c", "zone=" + "x" * 256])
def test_what_is_no_matcher(text: str) -> None:
    assert parse_matcher(text) is None


def test_a_matcher_holds_what_it_was_given() -> None:
    assert parse_matcher("a!~b=c") == Matcher(label="a", op="!~", value="b=c")
