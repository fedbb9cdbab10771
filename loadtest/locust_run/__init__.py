"""One run of `make load`: Locust's processes, the scenario that they run, the results as text and as a picture."""
