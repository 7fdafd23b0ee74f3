"""What one instance says of itself before its first pass."""

import random
from datetime import timedelta
from pathlib import Path

from agent.case import Tools
from agent.containers import Instance
from agent.engine import NEVER_STARTED
from agent.journal import Journal, Run
from shared.events.agent import EndReason, ObservedState
from tests.fault.fake_engine import FakeEngine
from tests.unit.agent.orders import FIRST, INSTANCE, NOW, a_container, an_entry
from tests.unit.agent.test_agent_parts import a_host


def test_the_first_word_after_a_restart_on_what_ended_meanwhile_is_when_it_ended(
    tmp_path: Path,
) -> None:
    """A report without it would be billed up to the report."""
    tools = Tools(
        host=a_host(tmp_path), engine=FakeEngine(random.Random(1)), journal=Journal(tmp_path),
        boot_id="boot", boot_clock=lambda: 0.0, registry="", stop_grace_s=1, ready_timeout_s=1,
        changed=lambda arrived: None,
    )  # fmt: skip
    run = Run(token=FIRST, before=NEVER_STARTED, boot_id="boot", began="t1", started_at=NOW)
    ended_at = NOW + timedelta(seconds=9)
    container = a_container(started_raw="t1", finished_at=ended_at, exit_code=137)
    seen = Instance(INSTANCE, tools, an_entry(run=run), [container]).report()
    assert seen is not None
    assert seen.state is ObservedState.stopped
    assert (seen.finished_at, seen.end_reason) == (ended_at, EndReason.killed)
