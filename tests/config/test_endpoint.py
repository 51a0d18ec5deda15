"""Which KMS endpoints can be parsed."""

from __future__ import annotations

import pytest

from luksctl.config.endpoint import endpoint_problem


@pytest.mark.parametrize(
    "endpoint",
    ["kms", "kms:4050", "10.0.0.1:4050", "https://kms.example.com", "grpc://kms:1/path?x=y#z", "tcp://[::1]:65535"],
)
def test_can_be_parsed(endpoint: str) -> None:
    """Host and port, with or without a scheme; a path is ignored."""
    assert endpoint_problem(endpoint) is None


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        "://kms",
        "https://",
        ":4050",
        "kms:",
        "kms:0",
        "kms:70000",
        "kms:http",
        "a b",
        "u:p@kms",
        "::1",
        "[::1",
        "-x",
    ],
)
def test_cannot_be_parsed(endpoint: str) -> None:
    """No host, a port that is none, credentials, bare IPv6 addresses."""
    assert endpoint_problem(endpoint) is not None
