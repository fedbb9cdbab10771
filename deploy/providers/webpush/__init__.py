"""Stand-ins of the push services of browsers: one that Chromium connects to, one that Firefox connects to."""
