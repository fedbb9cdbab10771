"""The address ranges of Cloudflare: the list of this release, and the published one, which the master fetches."""
