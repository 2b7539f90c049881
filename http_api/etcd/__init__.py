"""etcd's v3 HTTP/JSON API: a translation onto the commands of the native API.

`messages` says what may come in, `decode` and `encode` how it looks as JSON, `errors` maps our
errors to etcd's texts; `gateway` is what the handlers share, and `routes` the table of paths.
"""
