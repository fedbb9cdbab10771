"""The authenticator in the browser from end to end: real browsers, their push services' stand-ins, relay and server."""
