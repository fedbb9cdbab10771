"""Real pushes in real browsers, through the stand-ins of their push services."""
