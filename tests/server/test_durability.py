"""No answer leaves before the flush of its commit, as the kernel sees it."""

from __future__ import annotations

import re
import shutil
import signal
from pathlib import Path

import psutil
import pytest

from tests.server.processes import running

TRACED = "fdatasync,fsync,pwrite64,write,writev,sendto,sendmsg,read,recvfrom,recvmsg,readv"
ANSWER = re.compile(r"(?:write|writev|sendto|sendmsg)\(\d+, .*HTTP/1\.1 20[01] ")
REQUEST = re.compile(r"(?:read|readv|recvfrom|recvmsg)\(\d+, .{0,80}\"POST /api/nodes")
RESUMED_READ = re.compile(r"<\.\.\. (?:read|readv|recvfrom|recvmsg) resumed>.{0,80}\"POST /api/nodes")
FLUSHED = re.compile(r"(?:fdatasync|fsync)\(\d+\)\s+= 0|<\.\.\. (?:fdatasync|fsync) resumed>\)\s+= 0")


def test_no_answer_leaves_before_the_flush_of_its_commit(tmp_path: Path) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    log = tmp_path / "trace"
    strace = ["strace", "-f", "-qq", "-s", "200", "-e", f"trace={TRACED}", "-o", str(log)]
    # The registry's own beats would flush at moments of their own; after its second one none comes within this hour.
    environ = {"THUNDERLINE_HEARTBEAT_INTERVAL_S": "3600"}
    with running(tmp_path / "t.db", under=strace, environ=environ) as server:
        while len(server.http.get("/api/heartbeats").json()["heartbeats"]) < 2:
            pass
        for i in range(20):
            assert server.http.post("/api/nodes", json={"name": f"n{i}"}).status_code == 201
            assert server.http.post(f"/api/nodes/n{i}/heartbeats", json={"seq": 1}).status_code == 201
            assert server.http.post(f"/api/nodes/n{i}/status", json={"status": "degraded"}).status_code == 200
        (traced,) = psutil.Process(server.process.pid).children()
        traced.send_signal(signal.SIGTERM)
        server.process.wait(30)
    answers, flushed, waiting = 0, False, False
    for line in log.read_text(errors="replace").splitlines():
        if REQUEST.search(line) or RESUMED_READ.search(line):
            flushed, waiting = False, True
        elif FLUSHED.search(line):
            flushed = True
        elif waiting and ANSWER.search(line):
            assert flushed, f"answer {answers + 1} left before its commit was flushed: {line}"
            answers, waiting = answers + 1, False
    assert answers == 60
