"""What an outcome means to others: billing's facts, each once, and the ends of saves.

The authorisation is forgotten with the last of its facts (`applying.py`), so none is told twice.
"""

from collections.abc import Iterator
from uuid import UUID

from services.scheduler import moving
from services.scheduler.domain.observation import Outcome
from services.scheduler.models import Instance
from services.scheduler.stopping import save_failed
from shared.events import Payload
from shared.events.scheduler import InstanceResumed, InstanceSaved, InstanceStarted


def facts_of(instance: Instance, outcome: Outcome, resumed_id: UUID | None) -> Iterator[Payload]:
    """Of the instance as it stands before the outcome. resumed_id: of the new authorisation, where
    the run goes on after a loss."""
    yield from _of_run(instance, outcome)
    if resumed_id is not None:
        yield InstanceResumed.model_validate(
            {
                "instance_id": instance.id,
                "account_id": instance.account_id,
                "old_authorisation_id": instance.lost_authorisation_id,
                "authorisation_id": resumed_id,
                "mode": instance.mode,
                "started_at": outcome.resumed_at,
            }
        )
    yield from _of_save(instance, outcome)


def _of_run(instance: Instance, outcome: Outcome) -> Iterator[Payload]:
    if outcome.calls_off_restart and instance.next_authorisation_id is not None:
        yield moving.abandonment(
            instance, instance.next_authorisation_id, outcome.told_reason or "host_down"
        )
    authorisation_id = instance.authorisation_id
    if authorisation_id is None:
        return
    if outcome.told_start is not None:
        yield InstanceStarted.model_validate(
            {
                "instance_id": instance.id,
                "account_id": instance.account_id,
                "authorisation_id": authorisation_id,
                "mode": instance.mode,
                "started_at": outcome.told_start,
            }
        )
    if outcome.told_stop is not None:
        ended = outcome.stop_reason.value if outcome.stop_reason else instance.stop_reason
        reason = outcome.told_reason or ended or "user"
        yield moving.stop_fact(instance, authorisation_id, outcome.told_stop, reason)
    elif outcome.abandoned:
        words = outcome.reason.en if outcome.reason else instance.stop_reason or "user"
        yield moving.abandonment(instance, authorisation_id, words)


def _of_save(instance: Instance, outcome: Outcome) -> Iterator[Payload]:
    save = outcome.save_ended
    if save is None:
        return
    if save.state == "failed":
        yield save_failed(instance, save.image_id, save.message)
    else:
        yield InstanceSaved(
            instance_id=instance.id,
            image_id=save.image_id,
            digest=save.digest,
            size_bytes=save.size_bytes,
        )
