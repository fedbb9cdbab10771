"""Rules of webhook events: claims, completions, failures."""
