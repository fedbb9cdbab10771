"""What pushes and webhooks share: backlog, candidates, attempts in flight, circuit breaker.

1. Outbox row. The transaction that creates or ends a challenge also writes the row of its push (`core.pushes.outbox`)
   or webhook event (`core.webhooks.event`): the change and the row are committed together, or neither is.
2. Claim. A loop of any worker claims rows in a transaction: it writes a random token and the end of a lease of 30 s
   into each. Until the lease ends, no other worker claims the row.
3. Attempt. The worker that claimed the row sends the request.
4. Completion. A second transaction deletes the row, or frees it with the time of the next attempt
   (`core.pushes.delivery`, `core.webhooks.delivery`).

Delivery is at-least-once. A worker that dies, or whose completion is lost, leaves a claimed row, and another worker
sends it again after the lease. The receiving side recognises a repeat: the relay by its push_key, the webhook receiver
by the event id.

A completion with a stale token changes nothing. The row then belongs to a later claim, whose holder may already have
sent it and knows the newer result; or the row is gone.
"""
