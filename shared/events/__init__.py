"""Event contracts: what rooms tell one another. One module per owner.

An event is a fact in the past tense, `<service>.<entity>.<past participle>`; its class is the
versioned payload. A change that breaks a reader is a new class beside the old.
"""

from shared.events.envelope import Envelope, Payload

__all__ = ["Envelope", "Payload"]
