"""Mutation: everything that can be done, in business words."""

import strawberry

from resolvers import (
    attempts,
    businesses,
    campaigns,
    cards,
    channels,
    claim_codes,
    clock,
    customers,
    deliveries,
    imports,
    lotteries,
    password_resets,
    points_of_sale,
    privacy,
    replays,
    staff,
    templates,
    undo,
    vouchers,
    webhook_endpoints,
)
from schema import updates
from schema.operation import mutation


@strawberry.type(description="Everything that can be done. Each takes one `input`.")
class Mutation:
    """Verb first."""

    sign_in = mutation(staff.sign_in)
    sign_out = mutation(staff.sign_out)
    change_password = mutation(staff.change_password)
    end_session = mutation(staff.end_session)
    end_all_sessions = mutation(staff.end_all_sessions)
    request_password_reset = mutation(password_resets.request_password_reset)
    reset_password = mutation(password_resets.reset_password)

    generate_api_key = mutation(staff.generate_api_key)
    regenerate_api_key = mutation(staff.regenerate_api_key)
    update_api_key = mutation(staff.update_api_key)
    delete_api_key = mutation(staff.delete_api_key)
    create_access_token = mutation(staff.create_access_token)

    create_business = mutation(businesses.create_business)
    update_business = mutation(businesses.update_business, input=updates.UpdateBusinessInput)
    advance_test_clock = mutation(clock.advance_test_clock)
    create_location = mutation(businesses.create_location)
    update_location = mutation(businesses.update_location, input=updates.UpdateLocationInput)
    archive_location = mutation(businesses.archive_location)
    create_staff = mutation(staff.create_staff)
    update_staff = mutation(staff.update_staff, input=updates.UpdateStaffInput)
    disable_staff = mutation(staff.disable_staff)
    enable_staff = mutation(staff.enable_staff)

    create_voucher_template = mutation(templates.create_voucher_template)
    update_voucher_template = mutation(
        templates.update_voucher_template, input=updates.UpdateVoucherTemplateInput
    )
    archive_voucher_template = mutation(templates.archive_voucher_template)
    create_card_template = mutation(templates.create_card_template)
    update_card_template = mutation(
        templates.update_card_template, input=updates.UpdateCardTemplateInput
    )
    publish_card_template = mutation(templates.publish_card_template)
    archive_card_template = mutation(templates.archive_card_template)
    set_join_page = mutation(templates.set_join_page)
    import_card_template = mutation(templates.import_card_template)

    issue_card = mutation(cards.issue_card)
    add_stamps = mutation(cards.add_stamps)
    report_card_saved = mutation(cards.report_card_saved)
    report_card_opened = mutation(cards.report_card_opened)
    delete_card = mutation(cards.delete_card)
    replace_card = mutation(cards.replace_card)
    add_stamps_batch = mutation(cards.add_stamps_batch)

    create_claim_codes = mutation(claim_codes.create_claim_codes)
    claim_stamps = mutation(claim_codes.claim_stamps)
    play_lottery = mutation(lotteries.play_lottery)
    void_operation = mutation(undo.void_operation)

    issue_voucher = mutation(vouchers.issue_voucher)
    redeem_voucher = mutation(vouchers.redeem_voucher)
    void_voucher = mutation(undo.void_voucher)
    reverse_redemption = mutation(undo.reverse_redemption)

    create_customer = mutation(customers.create_customer)
    update_customer = mutation(customers.update_customer, input=updates.UpdateCustomerInput)
    set_consent = mutation(customers.set_consent)
    merge_customers = mutation(customers.merge_customers)
    import_customers = mutation(imports.import_customers)
    erase_customer = mutation(privacy.erase_customer)

    create_campaign = mutation(campaigns.create_campaign)
    cancel_campaign = mutation(campaigns.cancel_campaign)

    connect_point_of_sale = mutation(points_of_sale.connect_point_of_sale)
    update_point_of_sale = mutation(
        points_of_sale.update_point_of_sale, input=updates.UpdatePointOfSaleInput
    )
    test_point_of_sale = mutation(points_of_sale.test_point_of_sale)
    disconnect_point_of_sale = mutation(points_of_sale.disconnect_point_of_sale)

    connect_channel = mutation(channels.connect_channel)
    test_channel = mutation(channels.test_channel)
    disconnect_channel = mutation(channels.disconnect_channel)

    create_webhook_endpoint = mutation(webhook_endpoints.create_webhook_endpoint)
    update_webhook_endpoint = mutation(
        webhook_endpoints.update_webhook_endpoint, input=updates.UpdateWebhookEndpointInput
    )
    pause_webhook_endpoint = mutation(webhook_endpoints.pause_webhook_endpoint)
    resume_webhook_endpoint = mutation(webhook_endpoints.resume_webhook_endpoint)
    delete_webhook_endpoint = mutation(webhook_endpoints.delete_webhook_endpoint)
    rotate_signing_secret = mutation(webhook_endpoints.rotate_signing_secret)
    send_test_event = mutation(attempts.send_test_event)
    redeliver = mutation(attempts.redeliver)
    redeliver_dead = mutation(deliveries.redeliver_dead)
    skip_event = mutation(deliveries.skip_event)
    replay_events = mutation(replays.replay_events)
    stop_replay = mutation(replays.stop_replay)
