"""Faults of durability: syncs, restarts, checkpoints, truncation, snapshots, lost disks."""

from kvstore.peers.membership import Membership
from kvstore.replica import restoring
from kvstore.replica.applying import Applier
from kvstore.replica.checkpoints import Checkpoints
from kvstore.replica.disk_watch import DiskWatch
from kvstore.replica.driver import Driver
from kvstore.replica.health import Health
from kvstore.state.kept_answers import KeptAnswers
from kvstore.state.state_machine import StateMachine
from kvstore.storage import groups
from kvstore.storage.data_dir import DataDir
from kvstore.storage.segment_log import SegmentLog
from kvstore.storage.state import StateStore
from kvstore.storage.tables import StoredTable
from proof.simulation.mutations.edit import edit, mutation

_LOG = (
    mutation(
        "answer before sync",
        "What an acceptor answers must be on its disk by then: a crash in between takes it back.",
        edit(
            Driver,
            "_obey",
            (
                "self._commits.submit(effects.persist, partial(self._durable, effects.send))",
                "self._commits.submit(effects.persist, partial(self._durable, []))\n"
                "        self._deliver(effects.send)",
            ),
        ),
    ),
    mutation(
        "answer past the commits before",
        "An answer without records of its own may repeat one whose commit is still under way.",
        edit(
            Driver,
            "_obey",
            (
                "if effects.persist or (effects.send and self._commits.under_way):",
                "if effects.persist:",
            ),
        ),
    ),
    mutation(
        "forget the promise on restart",
        "P1a across a crash: an acceptor that comes back keeps its promises.",
        edit(
            groups,
            "decode_records",
            ("Promised(Ballot(ballot_round, node))", "Promised(Ballot(0, 0))"),
        ),
    ),
    mutation(
        "forget accepted values on restart",
        "An acceptor that comes back reports what it accepted, also beyond what it knows chosen.",
        edit(
            SegmentLog,
            "_restore",
            (
                "restored = fold.restored()",
                "restored = fold.restored()\n"
                "    through = restored.chosen_through\n"
                "    kept = tuple(e for e in restored.entries if e.slot <= through)\n"
                "    restored = Restored(restored.promised, kept, restored.first_slot, through)",
            ),
        ),
    ),
    mutation(
        "carry on past a failed sync",
        "After a failed sync nobody knows what the disk holds: the node must stop.",
        edit(Health, "storage_failed", ("self.fail(str(error), ", "str(")),
    ),
    mutation(
        "take a failed sync for a good one",
        "A commit that failed must not be answered as if it were durable.",
        edit(
            SegmentLog,
            "commit",
            ("self._failed = True", "pass"),
            (
                'raise StorageFailed(f"writing the log {self._path} failed: {error}") from error',
                "pass",
            ),
        ),
    ),
    mutation(
        "replay what is merely accepted",
        "A restart applies the log as far as it is known to be chosen, not as far as it reaches.",
        edit(
            restoring, "open_directory", ("entry.slot <= restored.chosen_through:", "entry.slot:")
        ),
    ),
)

_CHECKPOINTS = (
    mutation(
        "truncate ahead of the checkpoint",
        "The log may be dropped as far as a durable checkpoint reaches, not as far as is applied.",
        edit(
            Checkpoints,
            "_truncate",
            (
                "first <= last and (size > config.log_tail_bytes or count > config.log_tail_slots)",
                "first <= self._state.applied_through",
            ),
        ),
    ),
    mutation(
        "checkpoint one slot too many",
        "A checkpoint names the last slot it holds; a restart replays the log from the next one.",
        edit(
            StateMachine,
            "freeze",
            (
                "meta = _Meta(\n        self.applied_through,",
                "meta = _Meta(\n        self.applied_through + 1,",
            ),
        ),
    ),
    mutation(
        "forget what changed during a checkpoint",
        "What was applied while a checkpoint was written belongs to the next one.",
        edit(
            StateStore,
            "finish",
            ("table.thaw()", "table.thaw(); table.active = {}"),
        ),
    ),
    mutation(
        "lose deletions in a checkpoint",
        "A deletion is a change like any other: a key that was deleted must not come back.",
        edit(StoredTable, "write", ("transaction.delete(key, db=self.database)", "pass")),
    ),
    mutation(
        "lose the sessions in a checkpoint",
        "The sessions are part of the state: without them a second copy of a bundle is applied.",
        edit(StateMachine, "_load_meta", ("if meta.sessions:", "if False:")),
    ),
    mutation(
        "lose the idempotency keys in a checkpoint",
        "Idempotency keys are part of the state until they expire.",
        edit(
            KeptAnswers,
            "discard",
            ("if _EXPIRES_MS.unpack_from(entry)[0] > clock_ms:", "if False:"),
            ("and _KEPT.unpack_from(held)[0] <= clock_ms", ""),
        ),
    ),
    mutation(
        "install an old snapshot",
        "State never goes back: a snapshot that is not newer than what is applied is refused.",
        edit(
            Checkpoints,
            "install",
            (
                "if through <= before or self._health.failure:",
                "if self._health.failure:",
            ),
        ),
    ),
    mutation(
        "take a snapshot for one slot more",
        "A snapshot covers the slot that it names, and the log goes on with the next.",
        edit(
            Applier,
            "snapshot_installed",
            ("through = self._state.applied_through", "through = self._state.applied_through + 1"),
        ),
    ),
)

_OVERTAKING = (
    mutation(
        "keep the users of before a snapshot",
        "Users and rights are part of the state: a snapshot replaces them, in memory too.",
        edit(StateMachine, "load", ("self.auth.load()", "pass")),
    ),
    mutation(
        "do not notice that the disk hangs",
        "A node whose commits take longer than an election says so, takes no writes, and leads no "
        "more.",
        edit(
            DiskWatch,
            "_seen",
            ("if (age_s := self.commit_age_s) > self._commit_s_max:", "if (age_s := 0.0):"),
        ),
    ),
)

_IDENTITY = (
    mutation(
        "vote with an emptied disk",
        "A member whose disk was lost has forgotten its promises: it is another member, and the "
        "configuration does not know it.",
        edit(
            Membership,
            "_check_incarnations",
            ("if self.pinned.get(peer, hello.incarnation) != hello.incarnation:", "if False:"),
            ("if hello.roster and hello.roster.get(self.node) != self.incarnation:", "if False:"),
            ("if self.pinned.get(member, incarnation) != incarnation:", "if False:"),
            ("hello.formed and hello.roster == self.pinned", "hello.formed"),
        ),
        edit(
            Membership,
            "_check_stranger",
            ("roster.of_incarnation(hello.incarnation)", "roster.find(hello.node)"),
        ),
        edit(
            Membership,
            "_check_before",
            ("theirs.of_incarnation(self.incarnation)", "theirs.find(self.node)"),
        ),
    ),
    mutation(
        "vote before the cluster has formed",
        "Until all members have pinned each other, one that lost its disk could vote twice.",
        edit(Driver, "step", ("self._membership.formed and ", "")),
        edit(Driver, "_on_tick", ("if self._membership.formed:", "if True:")),
    ),
    mutation(
        "begin the same life again",
        "Each start is a life of its own: bundle numbers of another life name other bundles.",
        edit(DataDir, "_open", ("starts=held.starts + 1", "starts=max(1, held.starts)")),
    ),
)

MUTATIONS = (*_LOG, *_CHECKPOINTS, *_OVERTAKING, *_IDENTITY)
