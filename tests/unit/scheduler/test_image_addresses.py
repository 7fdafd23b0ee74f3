"""What a node is told to run: from a registry the very bytes, else the name alone."""

import pytest

from services.scheduler.clients.registry import Image
from shared.ids import new_id

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("address", "digest", "exact"),
    [
        ("oci.example/chusuan/x:1", DIGEST, f"oci.example/chusuan/x:1@{DIGEST}"),
        ("10.0.0.1:5443/chusuan/x:1", DIGEST, f"10.0.0.1:5443/chusuan/x:1@{DIGEST}"),
        ("oci:5443/chusuan/u-1/x:1", DIGEST, f"oci:5443/chusuan/u-1/x:1@{DIGEST}"),
        ("localhost/chusuan/x:1", DIGEST, f"localhost/chusuan/x:1@{DIGEST}"),
        ("oci:5443/chusuan/x:1", None, "oci:5443/chusuan/x:1"),
        ("oci:5443/chusuan/x:1", "", "oci:5443/chusuan/x:1"),
        ("chusuan/x:1", DIGEST, "chusuan/x:1"),
        ("chusuan/u-1/x:1", DIGEST, "chusuan/u-1/x:1"),
        ("minimal:1", DIGEST, "minimal:1"),
    ],
)
def test_an_image_in_a_registry_is_ordered_by_its_digest(
    address: str, digest: str | None, exact: str
) -> None:
    image = Image(id=new_id(), name="x", address=address, digest=digest, status="ready")
    assert image.exact_address == exact
