"""What goes out to other services: implementations of ports that the services declare."""
