"""The connections of a worker: which of them may stay open, judged from outside the HTTP server.

Granian has no time-out for a connection that never sends a request, no limit per address and none on responses that
the client does not read, and its acceptor spins when descriptors run out. A thread in each worker (`guard`) reads the
worker's own descriptors and what the application knows of them (`activity`), and shuts down what `policy` names.
"""
