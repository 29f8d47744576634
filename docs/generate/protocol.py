"""protocol.md: what becomes of requests and sockets, and the points that are tested."""

import runpy

from docs.generate.shared import FOLDER, NOTE, table


def the_protocol() -> str:
    """What becomes of requests and sockets, and the points that are tested."""
    from execution.transport import Outcome  # noqa: PLC0415 -- the other documents do not need it

    points = runpy.run_path(str(FOLDER.parent / "tests" / "judges" / "points.py"))
    parts = [
        NOTE,
        "# The protocol",
        (
            "GraphQL is spoken at `/graphql`: over HTTP by `POST` (callers with a key may send "
            "queries by `GET`), as server-sent events (`Accept: text/event-stream`, graphql-sse in "
            "distinct mode), in several parts (`multipart/mixed;subscriptionSpec=1.0`), and over "
            "websockets that speak graphql-transport-ws. "
            "[subscriptions.md](subscriptions.md) tells how to follow events."
        ),
        "## The status of an answer",
        (
            "The media type is chosen from `Accept`, by weight and then in the order given: "
            "`application/graphql-response+json`, `application/json` (which is the answer where "
            "nothing is said), `text/event-stream`. A subscription takes the first that streams. "
            "In plain JSON a request that never ran still has the status 200, as older clients "
            "expect."
        ),
        table(
            ("Status", "As plain JSON", "Code", "What happened"),
            [
                (
                    str(outcome.status),
                    str(outcome.as_json),
                    ", ".join(f"`{code}`" for code in outcome.code.split(", ") if code),
                    outcome.meaning,
                )
                for outcome in Outcome
            ],
        ),
        "## How long we wait",
        _waits(),
        "## The points that are tested",
        (
            "This list is our own: tests/judges/test_protocol.py holds every server that is built "
            "to it."
        ),
        table(
            ("graphql-transport-ws", "Close code"),
            [(point.name, str(point.code or "")) for point in points["POINTS"]],
        ),
        table(
            ("GraphQL over HTTP", "Status", "Media type", "Code"),
            [
                (
                    point.name,
                    str(point.status),
                    f"`{point.media_type}`" if point.media_type else "",
                    f"`{point.code}`" if point.code else "",
                )
                for point in points["EXCHANGES"]
            ],
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _waits() -> str:
    from core.settings import Settings  # noqa: PLC0415
    from execution.protocols import Patience  # noqa: PLC0415

    told = Settings.model_construct()
    given = Patience().under(told)
    rows = [
        ("The headers of a request, or a handshake", f"{given.head_seconds:g} s; then 408"),
        ("The body of a request", f"{given.body_seconds:g} s; then 408"),
        (
            "The body of an upload",
            (
                f"{given.body_seconds:g} s, and 1 s more for each {given.body_rate} bytes that "
                "have come"
            ),
        ),
        ("The size of a body", f"{told.body_bytes} bytes (uploads: 20 MB); then 413"),
        ("The address", f"{given.url_bytes} bytes; then 414"),
        ("The headers", f"{given.headers}, with {given.head_bytes} bytes in all; then 431"),
        (
            "The parts in which a body comes, trailers among them",
            f"{given.pieces}, and one more for each 100 bytes; then 400",
        ),
        (
            "Bytes around the chunks of a body",
            f"{given.head_bytes}, and half as many as the body has; then 400",
        ),
        (
            "Requests on a connection before the one ahead of them is answered",
            f"{given.requests_waiting}; then it is cut",
        ),
        ("Somebody who reads nothing of an answer", f"{given.answer_seconds:g} s"),
        ("Somebody who reads nothing of a stream or socket", f"{given.send_seconds:g} s"),
        ("`connection_init`", f"{told.init_seconds:g} s; then 4408"),
        ("Pings of the websocket", "one each 20 s; who does not answer for 20 s is let go"),
        (
            "Frames of a socket, pings among them",
            (
                f"{given.messages_at_once} at once, {given.messages_per_second:g} a second for "
                "ever; then 4429"
            ),
        ),
        ("Operations of a socket at once", f"{told.operations_per_socket}; then `RATE_LIMITED`"),
        (
            "Sockets and streams of a key, session or access token in one process",
            f"{told.sockets_per_key}; then 4429, or the status 429",
        ),
        ("A connection on which nothing more is asked", f"{told.idle_seconds} s"),
        (
            "Connections of an address, or of a network of 64 bits of IPv6",
            f"{told.connections_per_address}; then 429",
        ),
        (
            "Connections of a process, as far as its open files go",
            f"{told.connections}; then 503",
        ),
        (
            "Requests that a process receives and answers at once, and bytes of their bodies",
            (
                f"{told.requests_at_once}, and {told.receiving_bytes}; then 503 for whoever sends "
                "a body for longest (a socket: 1013)"
            ),
        ),
    ]
    return table(("What", "How long, or how much"), rows)
