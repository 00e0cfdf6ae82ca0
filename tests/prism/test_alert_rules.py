"""Rules and sinks in TOML: over the defaults, and every mistake named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thunderline.core.alerts import Matcher, Severity, fits, parse_matcher
from thunderline.core.errors import SettingsError
from thunderline.prism.alerts.rules import (
    DEFAULT_RULES,
    AlertConfig,
    Kind,
    LogSinkConfig,
    Nodes,
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
        ("[rules.node-offline]\nforr = '5m'", "rules.node-offline.forr: is not a known field"),
        ("[rules.node-offline.nodes]\nnamed = 'a'", "rules.node-offline.nodes.named"),
        ("[rules]\nnode-offline = 'off'", "rules.node-offline: expected"),
        ("[rules.Off]\nfor = 1", "rules"),
        ("[rules.node-offline]\nwindow = '5m'", "rules.node-offline.window: is of no use"),
        ("[rules.node-offline]\nkind = 'flapping'", "rules.node-offline: is of the kind node_offline"),
        ("[rules.node-offline]\nlabels = { node = 'x' }", "rules.node-offline.labels: node is a label"),
        ("[rules.mine]\nfor = '5m'", "rules.mine: needs a kind"),
        ("[rules.mine]\nenabled = false", "rules.mine: is no rule"),
        ("[rules.mine]\nkind = 'mine'", "rules.mine.kind"),
        ("[rules.store-slow]\nabove = inf", "rules.store-slow.above: should be a number"),
        ("[rules.connection-churn]\nabove = nan", "rules.connection-churn.above"),
        ("[rules.store-slow]\nfor = nan", "rules.store-slow.for: should be between"),
        ("[rules.store-slow]\nfor = '999d'", "rules.store-slow.for: should be between"),
        ("[sinks.a]\ntype = 'mail'", "sinks.a.type"),
        ("[sinks.a]\ntype = 'webhook'\nurl = 'ftp://x'", "sinks.a.url"),
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


@given(pattern=st.text(alphabet="ab*", max_size=12), text=st.text(alphabet="ab\n", max_size=12))
def test_an_asterisk_stands_for_anything(pattern: str, text: str) -> None:
    as_expression = ".*".join(re.escape(part) for part in pattern.split("*"))
    assert fits(pattern, text) is (re.fullmatch(as_expression, text, re.DOTALL) is not None)


def test_no_pattern_takes_for_ever() -> None:
    """As a regular expression this one would outlive the universe, on the loop that everybody waits for."""
    assert not fits("*a" * 100 + "b", "a" * 10_000)
    matcher = Matcher(label="node", op="~", value="*a" * 100 + "b")
    assert not matcher.holds({"node": "a" * 255})
    assert not Nodes(name="*a" * 100 + "b").holds(make_node(1, name="a" * 255))


@pytest.mark.parametrize("text", ["", "zone", "=x", "1=2", "a b=c", "zone=" + "x" * 256])
def test_what_is_no_matcher(text: str) -> None:
    assert parse_matcher(text) is None


def test_a_matcher_holds_what_it_was_given() -> None:
    assert parse_matcher("a!~b=c") == Matcher(label="a", op="!~", value="b=c")
