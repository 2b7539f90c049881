"""The command line `kvstore`: it puts the server, the client and the launcher together."""
