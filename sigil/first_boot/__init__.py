"""First boot: the setup wizard's service and the files that its commit writes."""
