"""Real processes under test: networks whose links fail, etcd beside ours, waiting."""
