"""Which lines pass as an SSH public key."""

import asyncssh
import pytest

from services.auth.errors import BadSshKey
from services.auth.ssh_access import parse_public_key


def public_line(kind: str = "ssh-ed25519", bits: int = 2048) -> str:
    if kind == "ssh-rsa":
        key = asyncssh.generate_private_key(kind, key_size=bits)
    else:
        key = asyncssh.generate_private_key(kind)
    return key.export_public_key().decode().strip()


@pytest.mark.parametrize("kind", ["ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa"])
def test_a_sound_key_is_kept_without_its_comment(kind: str) -> None:
    line = public_line(kind)
    parsed = parse_public_key(f"  {line} me@laptop with spaces\n")
    assert parsed.line == line
    assert parsed.fingerprint == asyncssh.import_public_key(line).get_fingerprint()
    assert parsed.fingerprint.startswith("SHA256:")


@pytest.mark.parametrize("format_name", ["openssh", "pkcs8-pem"])
def test_a_private_key_is_refused_as_leaked(format_name: str) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    with pytest.raises(BadSshKey) as refusal:
        parse_public_key(key.export_private_key(format_name).decode())
    assert "private key" in refusal.value.render_detail("en")
    assert refusal.value.field == "public_key"


@pytest.mark.parametrize(
    "prefix", ['command="/bin/sh" ', "no-pty ", "cert-authority ", 'from="*",', "# "]
)
def test_options_before_a_key_are_refused(prefix: str) -> None:
    with pytest.raises(BadSshKey):
        parse_public_key(prefix + public_line())


def test_two_lines_are_refused() -> None:
    with pytest.raises(BadSshKey):
        parse_public_key(public_line() + "\n" + public_line())


@pytest.mark.parametrize(
    "junk", ["", " ", "x", "ssh-ed25519", "ssh-ed25519 AAAA", "ssh-ed25519 \x00", "ssh-dss AAAA"]
)
def test_junk_is_refused(junk: str) -> None:
    with pytest.raises(BadSshKey):
        parse_public_key(junk)


def test_a_short_rsa_key_is_refused() -> None:
    with pytest.raises(BadSshKey) as refusal:
        parse_public_key(public_line("ssh-rsa", bits=1024))
    assert "2048" in refusal.value.render_detail("en")


def test_a_type_that_does_not_fit_its_content_is_refused() -> None:
    _, _, content = public_line("ecdsa-sha2-nistp256").partition(" ")
    with pytest.raises(BadSshKey):
        parse_public_key(f"ssh-ed25519 {content}")
