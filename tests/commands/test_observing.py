"""Processes tell how they are: a worker on a port of its own, a server that is about to stop."""

import os
import signal
import time
import urllib.request

import pytest

from backends import free_port, moments, wait_until_open
from core.settings import Settings
from processes import Process

pytestmark = pytest.mark.slow


@pytest.mark.on("postgres")
def test_a_worker_answers_on_a_port_of_its_own(settings: Settings) -> None:
    port = free_port()
    worker = Process(settings.model_copy(update={"worker_port": port}), "worker", installed=True)
    worker.url = f"http://127.0.0.1:{port}"
    worker.start()
    try:
        wait_until_open(port, 30)
        for _ in moments(10):
            if b'hand="importer"' in (text := read(f"{worker.url}/metrics")):
                break
        assert worker.answers("/readyz") == 200
        assert worker.answers("/livez") == 200
        assert worker.answers("/graphql") == 404
    finally:
        code = worker.stop()

    assert code == 0
    for hand in (b"pusher", b"timekeeper", b"postman", b"importer"):
        assert b'worker_last_pass_timestamp_seconds{hand="' + hand in text


@pytest.mark.on("sqlite")
def test_a_server_told_to_stop_is_red_before_it_stops(settings: Settings) -> None:
    """So that a load balancer looks away first: calls are answered until then."""
    server = Process(settings.model_copy(update={"shutdown_delay": 1.5}), installed=True)
    server.start()
    try:
        assert server.answers("/readyz") == 200
        began = time.monotonic()
        os.kill(server.pid, signal.SIGTERM)
        codes = [(server.answers("/readyz"), server.answers("/livez")) for _ in moments(0.5, 0.1)]
        for _ in moments(15):
            if server.answers("/livez") == 0:
                break
        took = time.monotonic() - began
    finally:
        server.stop()

    assert set(codes) == {(503, 200)}
    assert 1.4 < took < 15


def read(url: str) -> bytes:
    """What is there."""
    with urllib.request.urlopen(url, timeout=5) as answer:
        body: bytes = answer.read()
        return body
