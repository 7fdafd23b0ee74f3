"""The host's own firewall program may end before it has read what it is told."""

import uvloop

from agent import firewall


def test_a_program_that_ends_without_reading_its_input_is_answered_by_its_exit_code() -> None:
    async def run() -> set[bool]:
        return {(await firewall._run(["true"], "rule\n" * 20000))[0] for _ in range(20)}

    assert uvloop.run(run()) == {True}
