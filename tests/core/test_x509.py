"""When certificates expire, read from real ones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import trustme

from thunderline.core.x509 import expiry_of


@pytest.mark.parametrize(
    "expires_at", [datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC), datetime(2076, 1, 2, 3, 4, 5, tzinfo=UTC)]
)
def test_the_end_of_a_certificate_is_read_whichever_way_it_is_written(expires_at: datetime) -> None:
    issued = trustme.CA().issue_cert("localhost", not_after=expires_at)
    assert expiry_of(issued.cert_chain_pems[0].bytes()) == expires_at


def test_of_a_chain_the_first_that_expires_counts() -> None:
    authority = trustme.CA()
    ends = [datetime(2031, 1, 1, tzinfo=UTC) + timedelta(days=days) for days in (3, 1, 2)]
    pems = [authority.issue_cert("localhost", not_after=end).cert_chain_pems[0].bytes() for end in ends]
    assert expiry_of(b"noise\n" + b"\n".join(pems)) == min(ends)


@pytest.mark.parametrize(
    "pem",
    [
        b"",
        b"-----BEGIN CERTIFICATE-----\n%%%%\n-----END CERTIFICATE-----",
        b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
        b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----",
    ],
)
def test_what_is_no_certificate_has_no_end(pem: bytes) -> None:
    assert expiry_of(pem) is None
