"""What this host was given when it joined a platform: one node's login. Kept on disk, for its
owner alone. Blocking."""

import hashlib
import os
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit
from uuid import UUID

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError, field_serializer

from agent.journal import write_durably
from agent.transfer import RegistryAccess

FILE, CA_FILE = "credential.json", "ca.pem"


class CredentialUnreadable(Exception):
    """Says which file, and what to do."""


class Credential(BaseModel):
    """platform: the gateway's URL. token_hash: of the secret that it was given for, so that the
    same token again asks nobody. ca_pem: whom to trust there; empty: the usual authorities."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    platform: str
    token_hash: str
    node_id: UUID
    bus_url: SecretStr
    registry_address: str = ""
    registry_username: str = ""
    registry_password: SecretStr = SecretStr("")
    ca_pem: str = ""

    @field_serializer("bus_url", "registry_password", when_used="json")
    def _shown(self, value: SecretStr) -> str:
        return value.get_secret_value()

    @property
    def source(self) -> str:
        """How the bus names us to others."""
        return f"node.{self.node_id}"

    @property
    def access(self) -> RegistryAccess | None:
        if not self.registry_address:
            return None
        return RegistryAccess(self.registry_address, self.registry_username, self.registry_password)


def hash_of(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def load(state_dir: Path) -> Credential | None:
    """None: this host has joined nobody. Raises CredentialUnreadable."""
    path = state_dir / FILE
    try:
        return Credential.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise CredentialUnreadable(
            f"{path} cannot be read ({type(error).__name__}): restore it, or remove it and join"
            " again with a new token of `chusuan nodes invite`"
        ) from error


def store(state_dir: Path, credential: Credential) -> None:
    write_durably(state_dir / FILE, credential.model_dump_json().encode())


def bus_url_of(credential: Credential, state_dir: Path) -> str:
    """With the platform's own CA, where it has one; that is written beside the credential."""
    url = credential.bus_url.get_secret_value()
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    if parts.scheme != "amqps" or not credential.ca_pem or "cafile" in query:
        return url
    path = state_dir / CA_FILE
    write_durably(path, credential.ca_pem.encode())
    query["cafile"] = str(path.resolve())
    return urlunsplit(parts._replace(query=urlencode(query, quote_via=quote, safe="/")))


def trust_registry(credential: Credential, docker_certs: Path) -> None:
    """Docker pulls only from a registry whose CA it has in a folder of its own."""
    if not credential.ca_pem or not credential.registry_address:
        return
    folder = docker_certs / credential.registry_address
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "ca.crt"
    if not path.exists() or path.read_text() != credential.ca_pem:
        write_durably(path, credential.ca_pem.encode(), mode=0o644)
        os.chmod(path, 0o644)
