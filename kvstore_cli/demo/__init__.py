"""`kvstore demo`: a whole cluster on this machine, with a page to disturb it."""
