"""What the log says of a host that nobody hears."""

from structlog.testing import capture_logs

from agent.contact import REPEAT_S, Contact
from shared.bus import Undeliverable


def test_a_lost_contact_is_said_at_once_then_once_a_minute_with_its_cure_and_its_end() -> None:
    now = 100.0
    contact = Contact("gpu-1", clock=lambda: now)
    with capture_logs() as said:
        contact.reached()
        for _ in range(30):
            contact.failed(Undeliverable("ACCESS_REFUSED"))
            now += 5
        contact.reached()
        contact.reached()
        contact.failed(Undeliverable("again"))
    events = [(line["event"], line.get("since_s", line.get("away_s"))) for line in said]
    assert REPEAT_S == 60
    assert events == [
        ("contact_lost", 0),
        ("contact_lost", 60),
        ("contact_lost", 120),
        ("contact_back", 150),
        ("contact_lost", 0),
    ]
    assert "chusuan nodes invite" in said[0]["cure"]
