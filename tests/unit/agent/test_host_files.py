"""What a build takes over from its host, and what it leaves there."""

import subprocess
from pathlib import Path

import pytest

from agent.hostfiles import DEBIAN, debian_mirror, host_files
from agent.recipe import NoRecipe, folder_of, packed, read_recipe

PUBLIC = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"
OWN = "-----BEGIN CERTIFICATE-----\nBBBB\n-----END CERTIFICATE-----"


def write(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def files(root: Path, **environment: str) -> dict[str, str]:
    found = host_files(root, root / "home", environment)
    return {name: content.decode() for name, content in found.items()}


def test_a_host_with_nothing_special_still_builds(tmp_path: Path) -> None:
    assert set(files(tmp_path)) == {"use"}
    assert debian_mirror(tmp_path) == DEBIAN


def test_only_the_hosts_own_certificates_go_into_the_image(tmp_path: Path) -> None:
    write(tmp_path, "usr/share/ca-certificates/mozilla/a.crt", f"{PUBLIC}\n")
    write(tmp_path, "etc/ssl/certs/ca-certificates.crt", f"{PUBLIC}\n{OWN}\n")
    found = files(tmp_path)
    assert found["ca-bundle.crt"] == f"{PUBLIC}\n{OWN}\n"
    assert {n: c for n, c in found.items() if n.startswith("ca/")} == {"ca/host-0.crt": f"{OWN}\n"}


SOURCES = """
Types: deb deb-src
URIs: https://mirror.example.org/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /somewhere.gpg

Types: deb
URIs: https://vendor.example.org/repo
Suites: bookworm
Components: main
"""


def test_the_hosts_debian_mirror_is_used_and_no_other_archive(tmp_path: Path) -> None:
    write(tmp_path, "etc/apt/sources.list.d/debian.sources", SOURCES)
    write(
        tmp_path,
        "etc/apt/sources.list",
        "# deb http://old.example.org/debian bookworm main\n"
        "deb [arch=amd64] http://mirror.example.org/debian-security bookworm-security main\n"
        "deb http://mirror.example.org/debian trixie main\n",
    )
    found = files(tmp_path)
    assert found["sources.list"].splitlines() == [
        "deb http://mirror.example.org/debian-security bookworm-security main",
        "deb https://mirror.example.org/debian bookworm main",
        "deb https://mirror.example.org/debian bookworm-updates main",
    ]
    assert "/tmp/host/sources.list" in found["apt.conf"]
    assert debian_mirror(tmp_path) == "https://mirror.example.org/debian"


def test_indexes_and_proxies_are_taken_over_but_no_path_of_the_host(tmp_path: Path) -> None:
    write(
        tmp_path,
        "etc/pip.conf",
        "[global]\nindex-url = https://pypi.example.org/simple\nfind-links = /opt/wheels\n"
        "extra-index-url = file:///opt/simple https://more.example.org/simple\n"
        "constraint = /etc/constraints.txt\n",
    )
    write(tmp_path, "home/.npmrc", "cafile=/x\nregistry=https://npm.example.org/\nnodedir=/usr\n")
    write(
        tmp_path,
        "etc/apt/apt.conf.d/9proxy",
        'Acquire::http::Proxy "http://proxy:3128";\nDPkg::Post-Invoke {"true";};\n',
    )
    found = files(tmp_path, PIP_TRUSTED_HOST="pypi.example.org", HTTPS_PROXY="http://a b:1")
    assert found["pip.conf"].splitlines() == [
        "[global]",
        "index-url = https://pypi.example.org/simple",
        "extra-index-url = https://more.example.org/simple",
        "trusted-host = pypi.example.org",
    ]
    assert found["npmrc"] == "registry=https://npm.example.org/\n"
    assert found["apt.conf"] == 'Acquire::http::Proxy "http://proxy:3128";\n'
    assert "export https_proxy='http://a b:1' HTTPS_PROXY='http://a b:1'" in found["use"]


def test_the_script_that_builds_read_never_stops_one(tmp_path: Path) -> None:
    (tmp_path / "use").write_text(files(tmp_path)["use"])
    script = f"set -e; . {tmp_path}/use && echo on"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "on\n"


def test_a_context_is_the_same_bytes_whenever_and_by_whomever_it_is_packed(tmp_path: Path) -> None:
    def pack() -> bytes:
        with packed(tmp_path / "one", {"use": b":"}) as context:
            return context.read()

    write(tmp_path, "one/Dockerfile", "FROM scratch\n")
    before = pack()
    (tmp_path / "one" / "Dockerfile").unlink()
    write(tmp_path, "one/Dockerfile", "FROM scratch\n")
    assert pack() == before


@pytest.mark.parametrize("name", ["../one", "/one", "One", "", "two"])
def test_a_recipe_name_never_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    write(tmp_path, "recipes/one/Dockerfile", "FROM scratch\n")
    write(tmp_path, "one/Dockerfile", "FROM scratch\n")
    with pytest.raises(NoRecipe):
        folder_of(tmp_path / "recipes", name)


def test_the_recipes_of_the_house_are_read_by_builder_and_image_centre_alike() -> None:
    recipes = Path("deploy/images")
    assert read_recipe(recipes, "minimal").base is None
    for name in ("jupyter", "vscode"):
        assert (read_recipe(recipes, name).base, read_recipe(recipes, name).name) == (
            "minimal",
            name,
        )
