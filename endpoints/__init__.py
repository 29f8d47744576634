"""The few plain HTTP routes: health, metrics, hooks, codes and uploads, pages for customers."""

from starlette.routing import BaseRoute, Route

from endpoints.apple_passes import (
    changed_passes,
    fetch_pass,
    register_device,
    send_pass,
    take_log,
    unregister_device,
)
from endpoints.card_page import change_card, show_card
from endpoints.channels import hear_channel
from endpoints.claim_page import show_claim_code, show_claim_picture
from endpoints.codes import show_code
from endpoints.explorer import show_file
from endpoints.google_passes import hear_google, save_to_google, show_logo
from endpoints.health import live, ready
from endpoints.hooks import create_hook, delete_hook, sample_hook
from endpoints.join_page import confirm_joining, show_join_code, show_join_page
from endpoints.leaked_keys import take_leaked_keys
from endpoints.metrics import show_metrics
from endpoints.push import change_notifications
from endpoints.push import show_file as show_page_file
from endpoints.tills import authorized, redeem, take_sales
from endpoints.unsubscribe import leave_mails
from endpoints.uploads import create_upload, show_image


def routes() -> list[BaseRoute]:
    """Every plain route."""
    return [
        *health_routes(),
        Route("/codes/{token}.{kind}", show_code),
        Route("/console/{mark}/{name}", show_file),
        Route("/c/{token}", show_card),
        Route("/c/{token}", change_card, methods=["POST"]),
        Route("/c/{token}/push", change_notifications, methods=["POST", "DELETE"]),
        Route("/c/{token}/card.pkpass", fetch_pass),
        Route("/c/{token}/google", save_to_google),
        *_apple_routes(),
        Route("/passes/google", hear_google, methods=["POST"]),
        Route("/passes/logo.png", show_logo),
        Route("/push.js", show_page_file),
        Route("/push-worker.js", show_page_file),
        Route("/icon.svg", show_page_file),
        Route("/join/confirm/{secret}", confirm_joining, methods=["GET", "POST"]),
        Route("/join/{template}", show_join_page, methods=["GET", "POST"]),
        Route("/join/{template}/code.{kind}", show_join_code),
        Route("/claim/{code}", show_claim_code),
        Route("/claim/{code}/code.{kind}", show_claim_picture),
        Route("/hooks", create_hook, methods=["POST"]),
        Route("/hooks/sample/{type}", sample_hook),
        Route("/hooks/{id}", delete_hook, methods=["DELETE"]),
        Route("/leaked-keys", take_leaked_keys, methods=["POST"]),
        Route("/tills/{id}", take_sales, methods=["POST"]),
        Route("/tills/{id}/redeem", redeem, methods=["POST"]),
        Route("/tills/{id}/authorized", authorized),
        Route("/channels/{id}", hear_channel, methods=["GET", "POST"]),
        Route("/unsubscribe/{token}", leave_mails, methods=["GET", "POST"]),
        Route("/uploads", create_upload, methods=["POST"]),
        Route("/images/{sha256}.{extension}", show_image),
    ]


def _apple_routes() -> list[BaseRoute]:
    """What telephones ask of the passes they hold; the paths are Apple's."""
    root = "/passes/apple/v1"
    registrations = f"{root}/devices/{{device}}/registrations/{{type}}"
    return [
        Route(f"{registrations}/{{serial}}", register_device, methods=["POST"]),
        Route(f"{registrations}/{{serial}}", unregister_device, methods=["DELETE"]),
        Route(registrations, changed_passes),
        Route(f"{root}/passes/{{type}}/{{serial}}", send_pass),
        Route(f"{root}/log", take_log, methods=["POST"]),
    ]


def health_routes() -> list[BaseRoute]:
    """What machines ask of a process, a worker's too."""
    return [
        Route("/livez", live),
        Route("/readyz", ready),
        Route("/metrics", show_metrics),
    ]
