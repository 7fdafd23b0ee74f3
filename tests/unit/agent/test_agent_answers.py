"""What the engine's ways to fail mean."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import aiodocker
import pytest

from agent.answers import answers, registry_answers
from agent.engine import EngineRefused, EngineUnavailable


@pytest.mark.parametrize(
    "asking", [answers, lambda: registry_answers("host:5000/a:1")], ids=["engine", "registry"]
)
def test_a_connection_cut_before_the_answer_is_no_refusal(
    asking: Callable[[], AbstractContextManager[None]],
) -> None:
    """It is tried again, where a refused start would have failed for good."""
    said = "Cannot connect to Docker Engine via unix:///d.sock [Server disconnected]"
    with pytest.raises(EngineUnavailable), asking():
        raise aiodocker.DockerError(900, said)
    with pytest.raises(EngineRefused), asking():
        raise aiodocker.DockerError(500, "driver failed programming external connectivity")
