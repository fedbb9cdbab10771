"""Local stand-ins of Apple's APNs and Google's FCM, for tests, `make dev` and load runs (see README.md)."""
