"""The mutation proof: one rule at a time is broken on purpose, and the simulator must notice.

A search that finds nothing in a broken system proves nothing about a sound one. Each fault changes
a few words in the real classes; the default swarm runs over it as over the real thing.
"""
