"""What may never return, with a bound: calls in threads of their own, and files of any kind."""
