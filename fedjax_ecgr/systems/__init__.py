"""Systems: what the devices of the clients manage in a round, and how long it takes, one a file."""
