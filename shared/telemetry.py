"""Traces: one request followed through every part, by W3C `traceparent`.

Off, and then next to free, unless an exporter is given; `start_tracing` gives one where
OTEL_EXPORTER_OTLP_ENDPOINT names a collector. A trace begins at the gateway, never with what a
stranger sends, and goes on where its mark arrives: in a header, in an event, in an order.
"""

import atexit
import os
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
HEADER = "traceparent"
LENGTH = 55

_propagator = TraceContextTextMapPropagator()
_processor: "SpanProcessor | None" = None
_tracers: dict[str, Tracer] = {}


def start_tracing() -> None:
    """Once, by whoever starts the process."""
    if not any(os.environ.get(name) for name in ENDPOINTS):
        return
    # Only here, as below: who does not trace does not wait for the import.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    atexit.register(export_to(BatchSpanProcessor(OTLPSpanExporter())))


def export_to(processor: "SpanProcessor") -> Callable[[], None]:
    """Spans of all parts go there, until what is returned is called."""
    global _processor
    _processor = processor

    def stop() -> None:
        global _processor
        _processor = None
        _tracers.clear()
        processor.shutdown()

    return stop


def is_on() -> bool:
    return _processor is not None


@contextmanager
def span(
    part: str, name: str, *, parent: str | None = None, kind: SpanKind = SpanKind.INTERNAL
) -> Iterator[Span]:
    """part: `gateway`, a service, `agent`. parent: another part's mark; None: what is under way
    here, or nothing, and then a trace begins."""
    if _processor is None:
        yield INVALID_SPAN
        return
    context = _context_of(parent)
    with _tracer(part).start_as_current_span(name, context=context, kind=kind) as current:
        yield current


@contextmanager
def continued(
    part: str, name: str, parent: str | None, kind: SpanKind = SpanKind.INTERNAL
) -> Iterator[Span]:
    """Goes on with a trace, begins none."""
    if _processor is None or parent is None:
        yield INVALID_SPAN
        return
    with span(part, name, parent=parent, kind=kind) as current:
        yield current


def traceparent() -> str | None:
    """The mark of what is under way here, for another part."""
    if _processor is None:
        return None
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def add_trace_id(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor."""
    mark = traceparent()
    if mark is not None:
        event["trace_id"] = mark.split("-")[1]
    return event


def _context_of(parent: str | None) -> Context | None:
    if parent is None:
        return None
    # An empty context: what is under way here is not its parent.
    return _propagator.extract({HEADER: parent}, context=Context())


def _tracer(part: str) -> Tracer:
    """A provider for each part, since several share a process and a trace shows them apart."""
    if part not in _tracers:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider

        resource = Resource.create({"service.name": f"chusuan-{part}"})
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        if _processor is not None:
            provider.add_span_processor(_processor)
        _tracers[part] = provider.get_tracer("chusuan")
    return _tracers[part]
