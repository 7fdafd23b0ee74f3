"""`chusuan nodes`: what operators type, and what goes to the gateway."""

import json

import pytest

from tests.unit.cli.conftest import NODE_ID, FakeGateway, Run


def test_an_invitation_prints_the_bare_command_for_the_host(
    logged_in: Run, fake: FakeGateway
) -> None:
    result = logged_in("nodes", "invite", "--name", "gpu-7", "--hours", "2")
    assert result.stdout == "chusuan agent --join csj1.abc\n"
    assert "2026-11-25 10:00:00" in result.stderr
    sent = json.loads(fake.calls("POST", "/nodes/invitations")[0][1])
    assert sent == {"name": "gpu-7", "expires_in_s": 7200}


def test_an_invitation_as_json_is_one_document(logged_in: Run) -> None:
    result = logged_in("nodes", "invite", "--json")
    assert json.loads(result.stdout)["token"] == "csj1.abc"


def test_the_list_shows_states_and_says_when_the_platform_suspects_itself(logged_in: Run) -> None:
    result = logged_in("nodes", "list")
    assert "draining" in result.stdout
    assert "1/2" in result.stdout
    assert "close-breaker" in result.stderr


@pytest.mark.parametrize("move", ["drain", "resume", "revoke"])
def test_a_node_is_named_and_moved(logged_in: Run, fake: FakeGateway, move: str) -> None:
    result = logged_in("nodes", move, "gpu-7")
    assert result.exit_code == 0, result.output
    assert "rack=3" in result.stdout
    assert len(fake.calls("POST", f"/nodes/{NODE_ID}/{move}")) == 1


def test_a_node_is_removed_with_force_only_when_said(logged_in: Run, fake: FakeGateway) -> None:
    assert logged_in("nodes", "remove", "gpu-7").exit_code == 0
    assert logged_in("nodes", "remove", NODE_ID, "--force").exit_code == 0
    assert len(fake.calls("DELETE", f"/nodes/{NODE_ID}")) == 2


def test_the_breaker_is_closed_by_word(logged_in: Run, fake: FakeGateway) -> None:
    assert logged_in("nodes", "close-breaker").exit_code == 0
    assert len(fake.calls("POST", "/nodes/breaker/close")) == 1
