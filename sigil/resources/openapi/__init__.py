"""The OpenAPI description, made from the message types."""
