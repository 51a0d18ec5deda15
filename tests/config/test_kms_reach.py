"""What a config with kms keys says about reaching the KMS, over all its documents."""

from __future__ import annotations

import pytest

from luksctl.model.config import CLOCK_WAIT_S, KmsPolicy
from tests.config.reading import one_key, parse, problems

KEY = "{slot: 0, kms: {endpoint: https://kms}}"
PLAIN = "{slot: 0, kms: {endpoint: grpc://kms:4050}}"
POLICY = "---\napiVersion: luksctl/v1alpha1\nkind: EncryptionPolicy\nkms: "
PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


def indented(text: str, by: int) -> str:
    return "".join(f"{' ' * by}{line}\n" for line in text.splitlines())


def appended(path: str, op: str = "append") -> str:
    return f"---\nmachine:\n  files:\n  - path: {path}\n    op: {op}\n    content: |\n{indented(PEM, 6)}"


def test_the_policy_is_read() -> None:
    """Every field, and the alternatives of an endpoint without itself and once each."""
    endpoints = "endpoints: [{endpoint: https://kms, also: [https://b, https://kms, https://b, 'https://c:1']}]"
    files = "caFiles: [/ca], clientCertificate: /crt, clientKey: /key, tokenFile: /token"
    text = f"{one_key(KEY)}{POLICY}{{{endpoints}, {files}, network: VLAN 7, allowPlaintext: true}}\n"
    assert parse(text).policy.kms == KmsPolicy(
        allow_plaintext=True,
        alternatives=(("https://kms", ("https://b", "https://c:1")),),
        ca_files=("/ca",),
        client_certificate="/crt",
        client_key="/key",
        token_file="/token",
        network="VLAN 7",
    )


def test_authorities_come_from_all_places_that_talos_knows() -> None:
    """TrustedRootsConfig documents, and files that append to the bundle, with .crt and without."""
    roots = f"---\napiVersion: v1alpha1\nkind: TrustedRootsConfig\nname: ours\ncertificates: |\n{indented(PEM, 2)}"
    for document in (
        roots,
        appended("/etc/ssl/certs/ca-certificates"),
        appended("/etc/ssl/certs/ca-certificates.crt"),
    ):
        assert parse(one_key(KEY) + document).policy.kms.roots == (PEM,)
    for document in (appended("/etc/ssl/certs/ca-certificates.crt", "create"), appended("/etc/motd")):
        assert parse(one_key(KEY) + document).policy.kms.roots == ()
    assert parse(one_key("{slot: 0, nodeID: {}}") + roots).policy.kms.roots == ()


def test_a_document_without_certificates_is_a_problem() -> None:
    """It would leave the KMS untrusted without a word."""
    head = f"{one_key(KEY)}---\napiVersion: v1alpha1\nkind: TrustedRootsConfig\nname: ours\n"
    for text, message in (("", "certificates is missing"), ("certificates: none\n", "no certificate in it")):
        (found,) = problems(head + text)
        assert (found.path, message in found.message) == ("TrustedRootsConfig/ours.certificates", True)


def test_plain_text_is_refused_at_its_line_unless_the_policy_allows_it() -> None:
    """Wherever the policy stands in the file; on this machine a warning does."""
    (found,) = problems(one_key(PLAIN))
    assert (found.line, found.path) == (7, "VolumeConfig/EPHEMERAL.encryption.keys[0].kms.endpoint")
    assert "plain text" in found.message
    assert "allowPlaintext" in str(found.hint)
    warned = parse(f"{one_key(PLAIN)}{POLICY}{{allowPlaintext: true}}\n").warnings
    assert any("plain text" in warning for warning in warned)
    assert any(
        "plain text" in warning for warning in parse(one_key(PLAIN.replace("kms:4050", "127.0.0.1:4050"))).warnings
    )
    (found,) = problems(f"{one_key(KEY)}{POLICY}{{endpoints: [{{endpoint: https://kms, also: [other]}}]}}\n")
    assert found.path == "EncryptionPolicy.kms.endpoints[0]"


def test_a_token_is_never_sent_in_plain_text() -> None:
    """Not even where plain text is allowed."""
    (found,) = problems(f"{one_key(PLAIN)}{POLICY}{{allowPlaintext: true, tokenFile: /token}}\n")
    assert "never sent" in found.message


def test_a_credential_for_state_lies_in_meta() -> None:
    """Said before anybody relies on it."""
    text = f"{one_key(KEY, 'STATE')}{POLICY}{{tokenFile: /token}}\n"
    assert any("the disk carries its own KMS credential" in warning for warning in parse(text).warnings)
    assert not any("carries" in warning for warning in parse(one_key(KEY, "STATE")).warnings)


TIME = "---\nmachine:\n  time: "
DOCUMENT = "---\napiVersion: v1alpha1\nkind: TimeSyncConfig\n"


@pytest.mark.parametrize(
    ("text", "wait_s"),
    [
        ("", CLOCK_WAIT_S),
        (f"{TIME}{{servers: [10.0.0.1]}}\n", CLOCK_WAIT_S),
        (f"{TIME}{{bootTimeout: 2m30s}}\n", 150.0),
        (f"{TIME}{{bootTimeout: 0s}}\n", CLOCK_WAIT_S),
        (f"{TIME}{{disabled: true, bootTimeout: 2m}}\n", 0.0),
        (f"{TIME}{{disabled: false}}\n", CLOCK_WAIT_S),
        (f"{DOCUMENT}bootTimeout: 5s\n", 5.0),
        (f"{DOCUMENT}enabled: false\n", 0.0),
        (f"{DOCUMENT}bootTimeout: 5s\n{TIME}{{disabled: true}}\n", 5.0),
        (f"{TIME}null\n", CLOCK_WAIT_S),
    ],
)
def test_how_long_the_clock_is_waited_for(text: str, wait_s: float) -> None:
    """As Talos words it, the newer document before machine.time; never for ever."""
    assert parse(one_key(KEY) + text).policy.kms.clock_wait_s == wait_s


@pytest.mark.parametrize(("given", "wait_s"), [("soon", CLOCK_WAIT_S), ("100h", 3600.0), ("[1]", CLOCK_WAIT_S)])
def test_a_wait_that_cannot_be_is_told(given: str, wait_s: float) -> None:
    """It is Talos' field, so it is carried; what counts instead is a warning."""
    found = parse(f"{one_key(KEY)}{TIME}{{bootTimeout: {given}}}\n")
    assert found.policy.kms.clock_wait_s == wait_s
    assert given == "[1]" or any("bootTimeout" in warning for warning in found.warnings)
