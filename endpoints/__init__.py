"""The few plain HTTP routes: health, hooks, codes as pictures, pages for customers, uploads."""

from starlette.routing import BaseRoute, Route

from endpoints.card_page import show_card
from endpoints.claim_page import show_claim_code
from endpoints.codes import show_code
from endpoints.health import live, ready
from endpoints.hooks import create_hook, delete_hook, sample_hook
from endpoints.uploads import create_upload, show_image


def routes() -> list[BaseRoute]:
    """Every plain route."""
    return [
        Route("/livez", live),
        Route("/readyz", ready),
        Route("/codes/{token}.{kind}", show_code),
        Route("/c/{token}", show_card),
        Route("/claim/{code}", show_claim_code),
        Route("/hooks", create_hook, methods=["POST"]),
        Route("/hooks/sample/{type}", sample_hook),
        Route("/hooks/{id}", delete_hook, methods=["DELETE"]),
        Route("/uploads", create_upload, methods=["POST"]),
        Route("/images/{sha256}.{extension}", show_image),
    ]
