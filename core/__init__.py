"""What every floor may use: settings, refusals, the clock, ids, secrets."""
