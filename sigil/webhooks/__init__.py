"""Webhooks: events of final states, posted to the integrator."""
