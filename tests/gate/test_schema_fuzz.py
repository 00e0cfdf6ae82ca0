"""What schemathesis makes of the OpenAPI document, sent to a server process: requests that the document allows and
such that it forbids, and every check that schemathesis has of the answers.

The command is run as people run it, so that neither its hooks nor its threads are in the tests' own process. What it
says of a failure has the request as a `curl` command in it. Exceptions stand in `schema_exceptions.py`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.server.processes import running

ROOT: Final = Path(__file__).parents[2]
SEED: Final = 20260131
ANSWER_WITHIN_S: Final = 10
"""A request without an answer by then is a failure, and so is a connection that breaks."""

CASES_SLOW: Final = 5_000
CASES_QUICK: Final = 150

# The tests send more than one caller may.
UNLIMITED: Final = {
    "THUNDERLINE_REQUESTS_PER_SECOND_TOKEN": "1000000",
    "THUNDERLINE_REQUESTS_PER_SECOND_ADDRESS": "1000000",
    "THUNDERLINE_HEARTBEATS_PER_SECOND_NODE": "100000",
}

CONFIG: Final = f"""
seed = {SEED}
hooks = "tests.gate.schema_exceptions"
workers = 1
continue-on-failure = true
max-failures = 20
request-timeout = {ANSWER_WITHIN_S}
suppress-health-check = ["all"]

[cache]
enabled = false

[generation]
database = "none"

# Of what there is, so that not all that is sent is of what there is not.
[dictionaries]
nodes = {{ values = ["node-1", "node-2"] }}
groups = {{ values = ["group-1"] }}
sessions = {{ values = ["session-1"] }}
keys = {{ values = ["gpu"] }}

[parameters]
"path.ref" = {{ dictionary = "nodes", probability = 0.5 }}
"path.group" = {{ dictionary = "groups", probability = 0.5 }}
"path.session_ref" = {{ dictionary = "sessions", probability = 0.5 }}
"path.key" = {{ dictionary = "keys", probability = 0.5 }}

[checks.positive_data_acceptance]
# Beside the usual ones: 410 for what the log has forgotten, 412 for a condition that does not hold.
expected-statuses = ["2xx", "3xx", 401, 403, 404, 409, 410, 412, 429, "5xx"]

[checks.negative_data_rejection]
# The same, where they are what is found wrong first.
expected-statuses = [400, 401, 403, 404, 405, 406, 409, 410, 412, 415, 422, 428, 429, "5xx"]
"""
# What is sent does not follow from what was answered, in which ids and times are others in each run.
REPEATABLE: Final = """
[phases.fuzzing.extra-data-sources]
responses = false

[phases.fuzzing.error-feedback]
enabled = false
"""
WITH_TOKEN: Final = """
[auth]
auto-signup = false

[auth.openapi.bearer]
bearer = "${THUNDERLINE_FUZZ_TOKEN}"
"""


@pytest.fixture(params=[False, True], ids=["open", "auth"])
def auth(request: pytest.FixtureRequest) -> bool:
    """Whether callers have to show a token."""
    return bool(request.param)


def furnish(http: httpx.Client) -> None:
    """What the configuration names is there in the beginning; what becomes of it is the run's."""
    for name in ("node-1", "node-2"):
        http.post("/api/nodes", json={"name": name}).raise_for_status()
    http.put("/api/nodes/node-1/capabilities/gpu", json={"value": "a100"}).raise_for_status()
    http.post("/api/groups", json={"name": "group-1", "group_type": "zone"}).raise_for_status()
    session = {"session_id": "session-1", "node_id": "node-1", "remote_node_id": "node-2"}
    http.post("/api/sessions", json=session).raise_for_status()


def fuzz(folder: Path, *options: str, auth: bool, config: str = "") -> dict[str, Any]:
    """The report of a run against a server of its own, in which nothing failed."""
    environ = {**UNLIMITED, "THUNDERLINE_AUTH": str(auth).lower()}
    with running(folder / "t.db", environ=environ) as server:
        variables = dict(os.environ)
        if auth:
            token = (folder / "thunderline-admin.token").read_text().strip()
            server.http.headers["authorization"] = f"Bearer {token}"
            (own,) = server.http.get("/api/tokens").raise_for_status().json()["tokens"]
            variables |= {
                "THUNDERLINE_FUZZ_TOKEN": token,
                "THUNDERLINE_FUZZ_SPARED": f"{own['id']},{own['name']}",
            }
        furnish(server.http)
        document_file, config_file, report_file = (
            folder / name for name in ("openapi.json", "fuzz.toml", "report.json")
        )
        document_file.write_bytes(server.http.get("/schema").raise_for_status().content)
        config_file.write_text(CONFIG + config + (WITH_TOKEN if auth else ""))
        command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(config_file), "run"]
        command += [str(document_file), "--url", server.url, "--checks", "all", "--mode", "all", "--no-color"]
        command += ["--report", "json", "--report-json-path", str(report_file), *options]
        run = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stdout + run.stderr
        # It outlived all of this, and so did the token.
        assert server.http.get("/readyz").status_code == 200
        assert server.http.get("/api/nodes?limit=1").status_code == 200
        assert server.stop() == 0
        assert server.complaints() == []
    report: dict[str, Any] = json.loads(report_file.read_text())
    assert report["operations"]["tested"] == report["operations"]["total"] == report["operations"]["selected"]
    assert (report["failures"], report["errors"]) == ([], [])
    return report


def test_what_the_document_says_holds(tmp_path: Path, auth: bool) -> None:
    options = ("--phases", "examples,fuzzing", "--max-examples", "3")
    report = fuzz(tmp_path, *options, auth=auth, config=REPEATABLE)
    assert report["test_cases"]["generated"] >= CASES_QUICK


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_what_the_document_says_holds_in_5_000_cases(tmp_path: Path, auth: bool) -> None:
    report = fuzz(tmp_path, "--max-examples", "60", auth=auth)
    assert {phase: said["status"] for phase, said in report["phases"].items()} == dict.fromkeys(
        ("examples", "coverage", "fuzzing", "stateful"), "success"
    )
    assert report["test_cases"]["generated"] >= CASES_SLOW
