"""Paxos to try oneself: it is the real protocol, bounded, and no way leads to two values."""

import random

import pytest

from http_api.v1.free_play import MOVES_MAX, FreePlay, game_document, played
from kvstore.errors import InvalidArgument
from paxos.synod import SynodProposer


def told(game: FreePlay) -> str:
    return "\n".join(step["text"] for step in game.steps)


def test_one_proposer_alone_gets_its_value() -> None:
    game = played("p1.a.a.a.a")
    assert game.chosen == {b"red"}
    assert "node 1 knows that red is chosen" in told(game)


def test_who_comes_later_confirms_what_may_be_chosen() -> None:
    # Node 1's red is accepted by all; node 5 hears of it with the promises.
    game = played("p1.a.a.a.a.p5.a.a.a.a")
    assert game.chosen == {b"red"}
    assert "proposes red in ballot 1.5: that value was reported, so it gives up its own" in told(
        game
    )


def test_who_was_overtaken_is_refused_and_tries_again() -> None:
    game = played("p5.a.p1.a")
    assert "Node 2 refuses: it has promised 1.5, which is higher." in told(game)
    game.move("a")
    assert "Node 1 was overtaken: it may try again, with ballot 2.1." in told(game)
    assert any(one["text"].endswith("in ballot 2.1") for one in game.choices())


def test_an_acceptor_that_crashed_has_what_it_wrote_down() -> None:
    game = played("p5.a.a.a.c2.r2.p1.p1")
    assert "Node 2 starts again, and reads from its disk: it promised 1.5 and accepted blue" in (
        told(game)
    )
    game.move("a")
    assert "reports that it has accepted blue in ballot 1.5" in told(game)


def test_a_crash_loses_what_was_on_its_way_there() -> None:
    game = played("p1.c3")
    assert [one["node"] for one in game.choices() if one["kind"] == "deliver"] == [2, 4]
    game.move("p1")
    assert [one["node"] for one in game.choices() if one["kind"] == "deliver"] == [2, 4, 2, 4]


@pytest.mark.parametrize(
    "moves",
    ["d1", "p2", "p1.d9", "dx", "c9", "p1.ab", "p", "p1.p1.p1.p1.p1.p1", "r1", "c1.p1", "é", "a"],
)
def test_what_cannot_be_done_is_refused(moves: str) -> None:
    with pytest.raises(InvalidArgument, match="cannot be done now"):
        played(moves)


def test_a_game_has_an_end() -> None:
    moves = ".".join(["c2", "r2"] * (MOVES_MAX // 2))
    assert game_document(moves)["choices"] == []
    with pytest.raises(InvalidArgument, match="80 at most"):
        played(moves + ".c2")


def at_random(seed: int) -> FreePlay:
    """Any player."""
    chance, game = random.Random(seed), FreePlay()
    for _ in range(MOVES_MAX):
        kinds = [one["move"] for one in game.choices() if one["kind"] != "all"]
        game.move(chance.choice([move for move in kinds if move[0] != "c"] or kinds)
                  if chance.random() < 0.9 else chance.choice(kinds))  # fmt: skip
    return game


def test_nobody_gets_two_values_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    games = [at_random(seed) for seed in range(40)]
    assert all(len(game.chosen) < 2 for game in games)
    assert {value for game in games for value in game.chosen} == {b"red", b"blue"}
    # And the game would show it: a proposer that ignores what is reported.
    monkeypatch.setattr(SynodProposer, "value_for", lambda self, _: self.value)
    assert played("p1.a.a.a.a.p5.a.a.a.a").chosen == {b"red", b"blue"}
