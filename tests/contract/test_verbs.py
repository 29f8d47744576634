"""Every verb of the domain's table "Who may do what" has a mutation, or waits for its part."""

import hashlib

from schema.operation import operations

DOMAIN = "8750390d3a8975556514d482ccee90e16006a5e1b3565af09c146a5159812642"
"""The SHA-256 of the lines of the design's table of who may do what, each by its action."""

VERBS: dict[str, dict[str, str]] = {
    "issue card, add stamps, spin, issue and redeem voucher, report saved/opened, read cards, "
    "customers, history": {
        "issue a card": "issueCard",
        "add stamps": "addStamps",
        "spin": "playLottery",
        "issue a voucher": "issueVoucher",
        "redeem a voucher": "redeemVoucher",
        "report that a card was saved": "reportCardSaved",
        "report that a card was opened": "reportCardOpened",
    },
    "journal, events, subscriptions, claim codes": {
        "let an app read some of it": "createAccessToken",
        "make claim codes": "createClaimCodes",
        "claim stamps": "claimStamps",
    },
    "void an operation or voucher, reverse a redemption": {
        "void an operation": "voidOperation",
        "void a voucher": "voidVoucher",
        "reverse a redemption": "reverseRedemption",
    },
    "overview and statistics": {},
    "webhook endpoints, replays": {
        "make an endpoint": "createWebhookEndpoint",
        "change an endpoint": "updateWebhookEndpoint",
        "pause an endpoint": "pauseWebhookEndpoint",
        "resume an endpoint": "resumeWebhookEndpoint",
        "delete an endpoint": "deleteWebhookEndpoint",
        "rotate a signing secret": "rotateSigningSecret",
        "try an endpoint out": "sendTestEvent",
        "redeliver an event": "redeliver",
        "replay a part of the log": "replayEvents",
        "skip an event": "skipEvent",
    },
    "templates, campaigns, locations, imports, connectors, merging, test clock": {
        "make a voucher template": "createVoucherTemplate",
        "change a voucher template": "updateVoucherTemplate",
        "archive a voucher template": "archiveVoucherTemplate",
        "make a card template": "createCardTemplate",
        "change a card template": "updateCardTemplate",
        "publish a card template": "publishCardTemplate",
        "archive a card template": "archiveCardTemplate",
        "open or close a join page": "setJoinPage",
        "make a campaign": "createCampaign",
        "cancel a campaign": "cancelCampaign",
        "make a location": "createLocation",
        "change a location": "updateLocation",
        "archive a location": "archiveLocation",
        "import customers": "importCustomers",
        "connect a point of sale": "connectPointOfSale",
        "change a point of sale": "updatePointOfSale",
        "connect a channel": "connectChannel",
        "merge customers": "mergeCustomers",
        "move the test clock": "advanceTestClock",
    },
    "business settings, staff, API keys, export and erase of a customer, contact data on "
    "endpoints": {
        "change the business": "updateBusiness",
        "make a staff login": "createStaff",
        "change a staff login": "updateStaff",
        "disable a staff login": "disableStaff",
        "enable a staff login": "enableStaff",
        "end a session": "endSession",
        "end all sessions": "endAllSessions",
        "generate an API key": "generateApiKey",
        "regenerate an API key": "regenerateApiKey",
        "rename an API key": "updateApiKey",
        "delete an API key": "deleteApiKey",
        "erase a customer": "eraseCustomer",
    },
    "create a business": {"create a business": "createBusiness"},
    "expire, birthday, inactivity, campaign fan-out": {},
}
"""The rows of the table, and what each lets people do; reading has no mutation."""

LATER: dict[int, set[str]] = {}
"""Mutations that a later part brings. One that is there must leave this list."""


def test_every_verb_has_a_mutation_or_waits_for_its_part() -> None:
    wanted = {mutation for verbs in VERBS.values() for mutation in verbs.values()}

    assert wanted - set(operations) == set().union(*LATER.values())


def test_the_rows_are_those_of_the_domain() -> None:
    assert hashlib.sha256("\n".join(VERBS).encode()).hexdigest() == DOMAIN
