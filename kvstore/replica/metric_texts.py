"""What each counter and gauge of a replica means: the help texts of `/metrics`."""

COUNTERS = {
    "commands_applied": "Commands that this node's state machine has executed; all nodes apply all",
    "slots_applied": "Slots of the log that this node has applied, no-ops too",
    "slots_proposed": "Slots into which this node, as leader, put a value",
    "log_groups": "Groups of records given to the log; each is one write and one sync",
    "log_records": "Records in these groups; by log_groups: how well syncs are shared",
    "checkpoints": "Checkpoints of the state that were written",
    "checkpoint_failures": "Checkpoints that failed and are tried again; the log keeps the data",
    "leader_changes": "Changes of the leader that this node saw; more than a few an hour are bad",
    "linearizable_reads": "Reads that waited for the leader to confirm that it leads",
    "bundles_relayed": "Bundles of writes that this node, not leading, sent to the leader",
    "snapshots_installed": "Snapshots taken from a peer: this node was too far behind for the log",
    "scrub_passes": "Times that all checksums of state and older log segments were looked at",
    "scrub_records": "Records whose checksums were looked at by the search for damage",
}
GAUGES = {
    "is_leader": "1 if this node leads",
    "has_leader": "1 if this node knows a leader; without one nothing is written here",
    "ballot_round": "Round of this node's ballot; grows with every election",
    "chosen_through": "Every slot up to this one is chosen, as far as this node knows",
    "applied_through": "Every slot up to this one is applied here; compare with chosen_through",
    "checkpointed_through": "The state on disk is that after this slot",
    "log_first_slot": "The first slot that the log still holds",
    "log_bytes": "Bytes of values in the log, in memory as on disk",
    "slots_in_flight": "As leader: slots proposed and not yet chosen",
    "writes_waiting": "Writes of this node's clients that have no answer yet",
    "reads_waiting": "Linearizable reads that wait for their confirmation",
    "overlay_bytes": "Applied and not yet checkpointed; past a bound writes are refused",
    "state_bytes": "What the state takes, free pages of its file not counted",
    "space_quota_bytes": "What it may take; 0 if that is not bounded",
    "room_bytes": "What more it could take: free on the disk, or in its own file",
    "out_of_space": "1 if writes that grow are refused: the quota is used up, or the disk full",
    "log_commit_age_seconds": "Age of the log's oldest commit under way; above 1 the disk hangs",
    "log_waiting_bytes": "Bytes of values that wait for the log's disk",
    "checkpoint_age_seconds": "Age of the checkpoint that is being written; 0 if none is",
    "checkpoints_failing_seconds": "For how long each checkpoint has failed; 0 if the last did not",
    "clock_difference_seconds": "The largest difference of a peer's wall clock to this node's",
    "log_lines_dropped": "Lines of the process's log that nobody took in time",
    "snapshot_needed": "1 if this node is too far behind for the log and waits for a snapshot",
    "peer_links_plain": "Links of peers to this node without TLS",
    "peer_certificate_ends_timestamp_seconds": (
        "When the certificate for peers ends, in seconds since 1970; 0 without TLS"
    ),
    "scrub_age_seconds": "Since the last search for damage went through all records",
    "member_change_held_back": "1 if the leader waits with a change until more voters are there",
    "scrub_damage": "1 if damage was found on the disk that nobody has read yet",
    "revision": "The state machine's version: one more with each write",
    "compacted_revision": "Revisions below this one are no longer readable",
}


def text_of(name: str, texts: dict[str, str]) -> str:
    """The help text; of a newcomer without one, its name in words."""
    return texts.get(name, name.replace("_", " "))
