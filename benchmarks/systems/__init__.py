"""What is measured: our nodes, etcd and others, started, filled and ended alike."""
