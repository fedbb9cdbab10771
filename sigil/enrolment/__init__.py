"""The service of enrolments: a new device proves its key, and its user compares a code."""
