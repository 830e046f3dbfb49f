"""What sources that ask over a network share: a client, its manners, its patience, its rows."""
