"""Side-by-side measurements of this store and etcd."""
