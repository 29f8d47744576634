"""The pusher: leases, sender, address guard, signatures, schedule."""
