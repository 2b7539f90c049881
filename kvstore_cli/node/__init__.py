"""One node: the process of `kvstore serve`, its settings, certificates and data directory."""
