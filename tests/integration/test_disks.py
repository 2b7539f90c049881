"""Directories shared, lost and damaged, and disks that fill up."""

import resource
import shutil

import pytest

from tests.support.real_cluster import READY_S, Load, check_all, eventually, running_cluster

pytestmark = pytest.mark.integration

FAILED = 74


def test_second_process_on_a_directory(new_cluster):
    """Refused with a sentence; the first one does not notice."""
    cluster = new_cluster(1)
    log_file = cluster.nodes[1].log_file.parent / "second.log"
    second = cluster.nodes[1].spawn(log_file)
    try:
        assert second.wait(READY_S) == FAILED
    finally:
        second.kill()
        second.wait(10)
        second.stdin.close()
    assert "is in use by another process" in log_file.read_text()
    assert cluster.put(1, "key", b"value").status == 200


@pytest.mark.proof
def test_wiped_directory(new_cluster):
    """Under its old identity a node without its memory is refused, and never votes; taking it in as
    another member is left to people here."""
    cluster = new_cluster(replace_lost="manual")
    leader = cluster.leader()
    wiped, other = cluster.followers()
    cluster.must_put(leader, "key", b"1")
    cluster.kill9(wiped)
    shutil.rmtree(cluster.nodes[wiped].data_dir)
    cluster.start(wiped, wait=False)
    reason = f"node{wiped} has an empty data directory"
    for peer in (leader, other):
        eventually(lambda peer=peer: reason in cluster.log(peer), f"node {peer} refuses it")
    answer = eventually(lambda: _when(cluster.call(wiped, "GET", "/readyz"), 503), "503")
    eventually(
        lambda: b"incarnation" in cluster.call(wiped, "GET", "/readyz").body,
        f"the reason in {answer}",
    )
    cluster.must_put(leader, "key", b"2")
    assert cluster.get(other, "key").body == b"2"
    # Two of three processes run, and one of them must not count.
    cluster.kill9(leader)
    eventually(lambda: not cluster.ready(other), "the last good node notices")
    for _ in range(2):
        assert cluster.put(other, "key", b"3", "?timeout=1").status == 503
    assert cluster.put(wiped, "key", b"3", "?timeout=0.5").status == 503
    assert cluster.running(wiped), "it waits to be replaced, it does not fall over"
    cluster.start(leader)
    assert cluster.get(other, "key").body == b"2"


def _when(answer, status):
    return answer if answer.status == status else None


def _truncate_half(path):
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def _truncate_all_but_a_page(path):
    with path.open("r+b") as file:
        file.truncate(4096)


def _overwrite_head(path):
    with path.open("r+b") as file:
        file.write(b"\xa5" * 16384)


def _overwrite_values(path):
    """Flip the bytes of every stored value of the tail, as a bad disk may."""
    data = bytearray(path.read_bytes())
    at = data.find(b"load-")
    assert at > 0
    while at > 0:
        data[at] ^= 0xFF
        at = data.find(b"load-", at + 1)
    path.write_bytes(data)


@pytest.fixture(scope="module")
def one_down(tmp_path_factory):
    """A cluster with data, of which one follower is down; that one, the load, and its files."""
    with running_cluster() as cluster:
        with Load(cluster, cluster.numbers, size=2000) as load:
            load.more(200)
        down = cluster.followers()[0]
        cluster.converged()
        cluster.kill9(down)
        whole = tmp_path_factory.mktemp("disks") / "whole"
        shutil.copytree(cluster.nodes[down].data_dir, whole)
        yield cluster, down, load, whole


@pytest.fixture
def loaded(one_down):
    """The same, with the files of the one that is down as they were when it was killed."""
    cluster, down, load, whole = one_down
    cluster.kill9(down)
    shutil.rmtree(cluster.nodes[down].data_dir)
    shutil.copytree(whole, cluster.nodes[down].data_dir)
    return cluster, down, load


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("log/00000001.segment", _truncate_half),
        pytest.param("log/00000001.segment", _truncate_all_but_a_page, marks=pytest.mark.proof),
        pytest.param("log/00000001.segment", _overwrite_head, marks=pytest.mark.proof),
        ("log/00000001.segment", _overwrite_values),
        pytest.param("state.mdb", _truncate_half, marks=pytest.mark.proof),
        pytest.param("state.mdb", _truncate_all_but_a_page, marks=pytest.mark.proof),
        ("state.mdb", _overwrite_head),
        ("identity.json", _truncate_half),
    ],
)
def test_damaged_file(loaded, name, damage):
    """Refused at start, with the file's name and what to do; nothing else changes in it."""
    cluster, down, load = loaded
    damage(cluster.nodes[down].data_dir / name)
    cluster.start(down, wait=False)
    assert cluster.wait_exit(down, READY_S) == FAILED, cluster.log(down)
    log = cluster.log(down)
    assert "Traceback" not in log
    assert name in log
    assert "restore it" in log or "replace the member" in log
    leader = cluster.leader()
    check_all(cluster, leader, dict(list(load.acknowledged.items())[:20]))


def limit_files(cluster, number, size):
    """From now on the running node cannot make a file longer than `size` (None: no limit).

    Its writes then fail with EFBIG; to LMDB that is a full disk as well as ENOSPC.
    """
    pid = cluster.nodes[number].pid
    limit = resource.RLIM_INFINITY if size is None else size
    hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (limit, hard))


def size_of(cluster, number, name):
    """The file's length."""
    return (cluster.nodes[number].data_dir / name).stat().st_size


@pytest.mark.parametrize("victim", ["leader", "follower"])
@pytest.mark.proof
def test_full_disk_in_the_log(new_cluster, victim):
    """The node waits for room and says so; the others go on, it comes back without a restart, and
    nothing acknowledged is lost, on it or elsewhere."""
    cluster = new_cluster()
    full = cluster.leader() if victim == "leader" else cluster.followers()[0]
    rest = [n for n in cluster.numbers if n != full]
    with Load(cluster, cluster.numbers * 2, size=20_000) as load:
        load.more(30)
        # The next segment is to be twice as long as the longest, which may be made ahead already.
        log = cluster.nodes[full].data_dir / "log"
        limit_files(cluster, full, max(file.stat().st_size for file in log.iterdir()) + 200_000)
        eventually(lambda: "disk full" in cluster.log(full), "it says so")
        load.more(50)
        assert "waits for room" in cluster.status(full)["node"]["reason"]
        assert cluster.put(full, "grows", b"x").status == 507
    for number in rest:
        check_all(cluster, number, load.acknowledged)
    limit_files(cluster, full, None)
    cluster.wait_ready(full)
    cluster.converged()
    check_all(cluster, full, load.acknowledged, "?consistency=serializable")
    assert cluster.log(full).count("disk full") == cluster.log(full).count("disk well again") == 1


@pytest.mark.parametrize("then", ["room again", "kill9"])
@pytest.mark.proof
def test_full_disk_in_the_state(new_cluster, then):
    """Checkpoints fail and say so, writes go on, and nothing is lost when there is room again."""
    cluster = new_cluster(1, log_tail_bytes=100_000, log_segment_bytes=1 << 20)
    with Load(cluster, [1] * 4, size=20_000) as load:
        load.more(300)
        eventually(
            lambda: size_of(cluster, 1, "state.mdb") > 4_000_000,
            "the state is far larger than a segment",
        )
        limit_files(cluster, 1, size_of(cluster, 1, "state.mdb") + 20_000)
        eventually(lambda: "checkpoint failed" in cluster.log(1), "a checkpoint fails")
    said = cluster.status(1)["node"]
    assert said["ready"] and "checkpoints fail for" in str(said["warnings"])
    for count in range(10):
        assert cluster.put(1, f"late-{count}", b"%d" % count).status == 200
        load.acknowledged[f"late-{count}"] = b"%d" % count
    if then == "kill9":
        cluster.kill9(1)
        cluster.start(1)
    else:
        stuck = cluster.status(1)["node"]["checkpointed_through"]
        limit_files(cluster, 1, None)
        eventually(
            lambda: cluster.status(1)["node"]["checkpointed_through"] > stuck, "a checkpoint"
        )
        assert cluster.status(1)["node"]["warnings"] == []
        assert cluster.log(1).count("checkpoint failed") == 1
        assert cluster.log(1).count("checkpoints work again") == 1
    check_all(cluster, 1, load.acknowledged)
