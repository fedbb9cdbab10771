"""Serving for both services: settings, logs, HTTP on Falcon, processes on Granian."""
