"""From a snapshot to a plan, or to refusals a person can read."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.domain.placement import (
    WHOLE,
    Ask,
    Cause,
    Device,
    NodeSnapshot,
    Plan,
    can_take,
    cuda_fits,
    place,
)

A, B = UUID(int=1), UUID(int=2)


def node(*free: int, node_id: UUID = A, online: bool = True, waiting: int = 0) -> NodeSnapshot:
    devices = tuple(Device(f"{node_id}-{i}", i, milli, True) for i, milli in enumerate(free))
    return NodeSnapshot(node_id, online, "12.4", devices, waiting)


def causes(answer: object) -> list[Cause]:
    assert isinstance(answer, tuple)
    return [refusal.cause for refusal in answer]


def test_two_halves_are_not_one_whole_gpu() -> None:
    assert causes(place([node(600, 600)], Ask(gpu_count=1))) == [Cause.taken]
    assert causes(place([node(600, 600)], Ask(gpu_count=1, milli=800))) == [Cause.taken]


def test_the_fuller_host_is_chosen_and_on_it_the_fuller_device() -> None:
    nodes = [node(WHOLE, WHOLE, WHOLE), node(WHOLE, 500, node_id=B)]
    assert place(nodes, Ask(gpu_count=1, milli=500)) == Plan(B, (f"{B}-1",))


def test_the_host_that_was_chosen_on_the_market_is_the_only_one_asked() -> None:
    nodes = [node(WHOLE), node(0, node_id=B)]
    answer = place(nodes, Ask(gpu_count=1, node_id=B))
    assert causes(answer) == [Cause.taken]


@pytest.mark.parametrize(
    ("snapshot", "ask", "cause", "may_wait"),
    [
        (node(WHOLE, online=False), Ask(gpu_count=1), Cause.offline, False),
        (node(WHOLE), Ask(gpu_count=1, cuda="12.8"), Cause.image_too_new, False),
        (node(WHOLE), Ask(gpu_count=2), Cause.too_few, False),
        (node(0, WHOLE), Ask(gpu_count=2), Cause.taken, True),
        (node(WHOLE, waiting=1), Ask(gpu_count=1), Cause.queue_ahead, True),
    ],
)
def test_a_refusal_says_why_and_whether_waiting_helps(
    snapshot: NodeSnapshot, ask: Ask, cause: Cause, may_wait: bool
) -> None:
    answer = place([snapshot], ask)
    assert causes(answer) == [cause]
    assert isinstance(answer, tuple)
    assert answer[0].may_wait is may_wait
    assert answer[0].reason.zh
    assert answer[0].reason.en


def test_an_unhealthy_device_is_never_promised() -> None:
    sick = NodeSnapshot(A, True, "", (Device("sick", 0, WHOLE, False),))
    assert causes(place([sick], Ask(gpu_count=1))) == [Cause.taken]


def test_an_image_fits_a_driver_of_its_own_version_and_newer() -> None:
    assert cuda_fits("", "")
    assert cuda_fits("12.1", "12.4")
    assert cuda_fits("12.4.1", "12.4")
    assert not cuda_fits("12.10", "12.4")
    assert not cuda_fits("11.8", "")


milli = st.integers(0, WHOLE)
devices = st.lists(st.tuples(milli, st.booleans()), max_size=8)


@given(hosts=st.lists(devices, max_size=5), count=st.integers(1, 8), share=st.integers(1, WHOLE))
def test_a_plan_takes_only_what_is_free_and_a_refusal_only_what_is_not_there(
    hosts: list[list[tuple[int, bool]]], count: int, share: int
) -> None:
    nodes = [
        NodeSnapshot(
            UUID(int=n),
            True,
            "",
            tuple(Device(f"{n}-{i}", i, free, ok) for i, (free, ok) in enumerate(found)),
        )
        for n, found in enumerate(hosts)
    ]
    answer = place(nodes, Ask(gpu_count=count, milli=share))
    if isinstance(answer, Plan):
        chosen = {d.uuid: d for n in nodes if n.node_id == answer.node_id for d in n.devices}
        assert len(set(answer.gpu_uuids)) == count
        assert all(can_take(chosen[uuid], share) for uuid in answer.gpu_uuids)
    else:
        assert len(answer) == len(nodes)
        for snapshot in nodes:
            assert sum(can_take(d, share) for d in snapshot.devices) < count
