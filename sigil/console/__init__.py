"""What the commands of both services and of the device share: streams, errors, colours, terminals, files of secrets."""
