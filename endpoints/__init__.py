"""The few plain HTTP routes: health, metrics, hooks, codes and uploads, pages for customers."""

from starlette.routing import BaseRoute, Route

from endpoints.card_page import show_card
from endpoints.claim_page import show_claim_code
from endpoints.codes import show_code
from endpoints.health import live, ready
from endpoints.hooks import create_hook, delete_hook, sample_hook
from endpoints.metrics import show_metrics
from endpoints.uploads import create_upload, show_image


def routes() -> list[BaseRoute]:
    """Every plain route."""
    return [
        *health_routes(),
        Route("/codes/{token}.{kind}", show_code),
        Route("/c/{token}", show_card),
        Route("/claim/{code}", show_claim_code),
        Route("/hooks", create_hook, methods=["POST"]),
        Route("/hooks/sample/{type}", sample_hook),
        Route("/hooks/{id}", delete_hook, methods=["DELETE"]),
        Route("/uploads", create_upload, methods=["POST"]),
        Route("/images/{sha256}.{extension}", show_image),
    ]


def health_routes() -> list[BaseRoute]:
    """What machines ask of a process, a worker's too."""
    return [
        Route("/livez", live),
        Route("/readyz", ready),
        Route("/metrics", show_metrics),
    ]
