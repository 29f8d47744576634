"""Metrics: what this process counts and what the database tells, as Prometheus reads it."""

import hmac
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from ipaddress import ip_address

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.process_collector import ProcessCollector
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from core.metrics import Counter, Gauge, Histogram, Metric
from core.settings import Settings
from db import Load
from events.stream import Stream
from models import EndpointStatus
from resolvers.callers import secret_in
from resolvers.context import Deployment
from services.health import Measures, measure

_OF_A_PROXY = ("x-forwarded-for", "x-forwarded-host", "x-real-ip", "forwarded", "via")


async def show_metrics(request: Request) -> Response:
    """The metrics of this process; for whoever has the token, or else for this machine only."""
    deployment: Deployment = request.app.state.deployment
    if not _may_read(request, deployment.settings):
        return PlainTextResponse("Not for you.\n", status_code=403)
    measures: Measures | None = None
    with suppress(Exception):  # what this process counts is told all the same
        measures = await measure(deployment.database, datetime.now(UTC))
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(_Reading(deployment, measures))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


def _may_read(request: Request, settings: Settings) -> bool:
    token = settings.metrics_token
    if token:
        secret = secret_in({"Authorization": request.headers.get("authorization")}) or ""
        return hmac.compare_digest(secret.encode(), token.encode())
    # A proxy on this machine calls from it, too: but in the name of others.
    headers = request.headers
    is_direct = not any(name in headers for name in _OF_A_PROXY)
    return (
        is_direct and _is_here(request.client.host if request.client else "") and _names_us(headers)
    )


def _names_us(headers: Headers) -> bool:
    name = headers.get("host", "").rpartition(":")[0] or headers.get("host", "")
    return name == "localhost" or _is_here(name.strip("[]"))


def _is_here(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False


class _Reading:
    """One look at everything."""

    def __init__(self, deployment: Deployment, measures: Measures | None) -> None:
        self._deployment = deployment
        self._measures = measures

    def collect(self) -> Iterator[Family]:
        """Every family, those of the database first."""
        yield _gauge(
            "database_up", "Whether the database told what follows.", self._measures is not None
        )
        if self._measures is not None:
            yield from _of_database(self._measures)
        yield from _of_doorbell(self._deployment.stream)
        yield from _of_load(self._deployment.database.load)
        for metric in Metric.known:
            yield _counted(metric)


def _of_database(measures: Measures) -> Iterator[Family]:
    lag = GaugeMetricFamily(
        "stampwire_webhook_endpoint_lag_seconds",
        "Age of the oldest event that an endpoint was not sent yet; the longest 100 lags.",
        labels=["endpoint"],
    )
    behind = GaugeMetricFamily(
        "stampwire_webhook_endpoint_behind_events",
        "Events between an endpoint's place and the end of the log.",
        labels=["endpoint"],
    )
    failing = GaugeMetricFamily(
        "stampwire_webhook_endpoint_failing_seconds",
        "For how long every try at an endpoint has failed.",
        labels=["endpoint"],
    )
    for one in measures.lags:
        lag.add_metric([one.endpoint_id], one.seconds)
        behind.add_metric([one.endpoint_id], one.events)
        failing.add_metric([one.endpoint_id], one.failing_seconds)
    yield lag
    yield _gauge(
        "webhook_lag_seconds",
        "The longest lag of any endpoint.",
        max((one.seconds for one in measures.lags), default=0),
    )
    yield behind
    yield failing
    endpoints = GaugeMetricFamily(
        "stampwire_webhook_endpoints", "Webhook endpoints there are.", labels=["status"]
    )
    for status in EndpointStatus:
        endpoints.add_metric([status.value], measures.endpoints.get(status, 0))
    yield endpoints
    yield _gauge("webhook_replays", "Replays that are being sent.", measures.replays)
    yield _gauge(
        "notices_unmailed", "Notices that were not mailed; 1000 at most.", measures.notices
    )
    yield _gauge("businesses", "Businesses there are.", measures.businesses)
    yield _gauge("log_events", "Events recorded so far.", measures.events)
    yield _gauge("log_pruned_events", "Events that retention threw away.", measures.pruned)


def _of_doorbell(stream: Stream) -> Iterator[Family]:
    yield _gauge(
        "doorbell_healthy", "Whether the doorbell between processes is heard.", stream.healthy
    )
    rings = CounterMetricFamily(
        "stampwire_doorbell_rings_total",
        "Rings between processes, and what else came.",
        labels=["way"],
    )
    rings.add_metric(["sent"], stream.rings_sent)
    rings.add_metric(["lost"], stream.rings_lost)
    rings.add_metric(["heard"], stream.rings_heard)
    rings.add_metric(["ignored"], stream.messages_ignored)
    yield rings
    yield CounterMetricFamily(
        "stampwire_doorbell_rebuilds_total", "Lines built anew.", value=float(stream.rebuilds)
    )


def _of_load(load: Load) -> Iterator[Family]:
    yield _gauge("database_waiting", "Units of work that wait for the database.", load.waiting)
    yield _gauge("database_connections", "Connections to the database.", load.connections)
    yield _gauge("database_connections_busy", "Those of them that are at work.", load.busy)


def _counted(metric: Metric) -> Family:
    """What this process has counted."""
    labels = list(metric.labels)
    if isinstance(metric, Histogram):
        histogram = HistogramMetricFamily(metric.name, metric.meaning, labels=labels)
        for values in metric.values:
            counts, total = metric.read(*values)
            bounds = [*(str(float(bound)) for bound in metric.bounds), "+Inf"]
            histogram.add_metric(values, list(zip(bounds, counts, strict=True)), total)
        return histogram
    kind = CounterMetricFamily if isinstance(metric, Counter) else GaugeMetricFamily
    family = kind(metric.name, metric.meaning, labels=labels)
    if isinstance(metric, Counter | Gauge):
        for values, number in metric.values.items():
            family.add_metric(values, number)
    return family


def _gauge(name: str, meaning: str, value: float) -> Family:
    return GaugeMetricFamily(f"stampwire_{name}", meaning, value=float(value))
