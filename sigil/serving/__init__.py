"""Falcon and Granian glue that both services use."""
