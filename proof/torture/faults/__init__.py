"""What can be done to a cluster, one file per thing it is done to; `catalogue` has all."""
