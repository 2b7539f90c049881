"""etcd's v3 HTTP/JSON API: a translation onto the commands of the native API.

`messages` says what may come in, `decode` and `encode` how it looks as JSON, `errors` maps our
errors to etcd's texts. `calls` says what a call is: a row that stands beside its handler, in the
file of its service. `admission` finds out who sends a message, `gateway` is what the handlers
share, and `routes` gathers the rows and serves requests by them.
"""
