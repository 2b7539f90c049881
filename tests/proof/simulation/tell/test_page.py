"""The page of a trace: drawn without an error, complete in itself, and deaf to what it shows."""

import re
from collections.abc import Iterator
from html import escape
from pathlib import Path

import msgspec
import pytest

from proof.simulation.lessons import LESSONS
from proof.simulation.tell.page import render
from proof.simulation.tell.trace import Note, Recording, Sent
from tests.support.browser import Browser
from tests.support.sample_recordings import HOSTILE, Chaos, hostile, lesson

CALM = {"prefers_reduced_motion": "reduce", "prefers_color_scheme": "light"}


# -- in a browser -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def one_browser() -> Iterator[Browser]:
    with Browser() as browser:
        browser.prefer(**CALM)
        yield browser


@pytest.fixture(scope="module")
def chaos() -> Recording:
    return Chaos(1, 20.0).recording()


@pytest.fixture(scope="module")
def short_chaos() -> Recording:
    return Chaos(2, 9.0).recording()


@pytest.fixture
def browser(one_browser: Browser) -> Iterator[Browser]:
    """The browser in its usual size; whatever a test did, no page may have complained."""
    one_browser.resize(1400, 1000)
    one_browser.move_to(1, 1)
    yield one_browser
    assert (one_browser.console, one_browser.exceptions) == ([], [])


def show(browser: Browser, recording: Recording, folder: Path) -> None:
    file = folder / "trace.html"
    file.write_text(render(recording), encoding="utf-8")
    browser.open(file)
    settle(browser)


def settle(browser: Browser) -> None:
    browser.wait_for("!tracePage.shown().moving")


def shown(browser: Browser) -> dict[str, float]:
    found: dict[str, float] = browser.evaluate("tracePage.shown()")
    return found


def point_at(browser: Browser, message: int) -> str:
    """Move the pointer onto the message's arrow; what the page then says about it."""
    spot = browser.evaluate(f"tracePage.whereIs({message})")
    browser.move_to(spot["x"], spot["y"])
    browser.wait_for("!document.getElementById('tip').hidden")
    settle(browser)
    return text_of(browser, "#tip")


def text_of(browser: Browser, selector: str) -> str:
    found: str = browser.evaluate(f"document.querySelector({selector!r}).innerText")
    return found


def click(browser: Browser, selector: str) -> None:
    """With the pointer, where the element is: it must be visible and uncovered."""
    where = browser.evaluate(
        f"(() => {{ const e = document.querySelector({selector!r}); e.scrollIntoView({{block:"
        "'nearest'}); const b = e.getBoundingClientRect();"
        "return [b.left + b.width / 2, b.top + b.height / 2]; })()"
    )
    browser.drag(tuple(where), tuple(where))
    settle(browser)


def pixel(place: str) -> str:
    """A script that gives the colour at `x, y` of the canvas. Reads a copy: the page draws on."""
    return (
        "((x, y) => { const g = document.createElement('canvas').getContext('2d', "
        "{willReadFrequently: true}); g.drawImage(canvas, -Math.round(x), -Math.round(y)); "
        f"return [...g.getImageData(0, 0, 1, 1).data].slice(0, 3); }})({place})"
    )


def lanes(browser: Browser, kind: str) -> list[str]:
    found: list[str] = browser.evaluate(
        f"[...document.querySelectorAll('#gutter .{kind}')].map(e => e.innerText.split('\\n')[0])"
    )
    return found


@pytest.mark.proof
def test_a_chaotic_run_has_a_lane_per_node_and_client(
    browser: Browser, chaos: Recording, tmp_path: Path
) -> None:
    assert len(chaos.events) > 30_000
    show(browser, chaos, tmp_path)
    assert lanes(browser, "node") == [f"Node {node}" for node in chaos.nodes]
    assert lanes(browser, "client") == ["Client 1", "Client 2", "Client 3"]
    assert text_of(browser, "h1") == "Seed 8814"
    assert text_of(browser, "#command") == chaos.command
    click(browser, "#clients")
    assert lanes(browser, "client") == []
    assert lanes(browser, "node") == [f"Node {node}" for node in chaos.nodes]


def test_heartbeats_are_hidden_until_asked_for(
    browser: Browser, short_chaos: Recording, tmp_path: Path
) -> None:
    sent = [event.name for event in short_chaos.events if isinstance(event, Sent)]
    beats = sent.count("Heartbeat")
    assert beats > 100
    show(browser, short_chaos, tmp_path)
    assert shown(browser)["messages"] == len(sent) - beats - sent.count("HeartbeatReply")
    click(browser, "#filter summary")
    click(browser, "#filter input[value=Heartbeat]")
    assert shown(browser)["messages"] == len(sent) - sent.count("HeartbeatReply")


def test_jumping_to_a_violation_shows_its_moment(
    browser: Browser, short_chaos: Recording, tmp_path: Path
) -> None:
    browser.prefer(prefers_reduced_motion="no-preference")
    show(browser, short_chaos, tmp_path)
    browser.evaluate("document.getElementById('jump-kind').value = 'violation'")
    click(browser, "#jump-on")
    browser.prefer(**CALM)
    view = shown(browser)
    assert view["from"] < 7_000_000 < view["until"] < view["from"] + 2_000_000
    assert text_of(browser, "#found") == "7.000 s: violation on node 3: slot 320 has two values"


@pytest.mark.proof
def test_zooming_and_moving(browser: Browser, chaos: Recording, tmp_path: Path) -> None:
    show(browser, chaos, tmp_path)

    def window(act: None = None) -> tuple[float, float]:
        """Where the picture begins, and its length, once `act` had its effect."""
        settle(browser)
        view = shown(browser)
        return view["from"], view["until"] - view["from"]

    _, whole = window()
    spot = browser.evaluate(
        "(() => { const b = canvas.getBoundingClientRect();"
        "return [b.left + b.width / 2, b.top + b.height / 2]; })()"
    )
    _, keyed = window(browser.press("+"))
    assert keyed == pytest.approx(whole * 0.6)
    browser.wheel(*spot, -60)
    browser.wait_for(f"tracePage.shown().until - tracePage.shown().from < {keyed} * 0.9")
    start, length = window()
    moved, same = window(browser.drag((spot[0] + 200, spot[1]), (spot[0], spot[1])))
    assert moved > start + length * 0.1 and same == pytest.approx(length)
    back, _ = window(browser.press("ArrowLeft"))
    assert back == pytest.approx(moved - length * 0.25)
    click(browser, "#minimap")
    middle, length = window()
    assert middle + length / 2 == pytest.approx(10_000_000, rel=0.02)
    _, all_of_it = window(browser.press("0"))
    assert all_of_it == pytest.approx(whole)


def test_pointing_at_an_arrow_tells_its_message(browser: Browser, tmp_path: Path) -> None:
    show(browser, lesson(), tmp_path)
    click(browser, "#steps li:last-child button")
    told = point_at(browser, 8)
    for part in ("Accepted · node 2 → node 3", "2.3 slot 2", "308 ms", "309 ms (after 1 ms)"):
        assert part in told
    lost = point_at(browser, 2)
    assert "Lost" in lost and "2.7 ms: dropped by the network" in lost
    browser.press(".")
    assert text_of(browser, "#spoken").startswith("Accept · node 1")


def test_leaders_crashes_and_losses_are_painted(browser: Browser, tmp_path: Path) -> None:
    show(browser, lesson(), tmp_path)
    click(browser, "#steps li:last-child button")
    browser.press("0")
    settle(browser)
    at_lane = "view.x({}), lanes.nodes.get({}) + {}"
    leads, follows, down = (
        browser.evaluate(pixel(at_lane.format(*where)))
        for where in ((500, 1, 0), (500, 2, 0), (200_000, 1, 20))
    )
    assert leads == [47, 95, 208], "the colour --lead"
    assert follows != leads
    assert down[0] > down[1] + 5 and down[0] > down[2] + 5, "reddish"
    end = "pieces({model, view, lanes, horizon: model.end}, model.messages.byId.get(2))[0]"
    assert browser.evaluate(f"lanes.nodes.get(2) < {end}.y1 && {end}.y1 < lanes.nodes.get(3)")
    red, green, blue = browser.evaluate(pixel(f"...(e => [e.x1, e.y1])({end})"))
    assert red > 150 and max(green, blue) < 110, "the middle of the cross"


def test_steps_are_walked_and_reveal_the_picture(browser: Browser, tmp_path: Path) -> None:
    recording = lesson()
    times = [event.at_us for event in recording.events if isinstance(event, Note)]
    times.append(recording.events[-1].at_us)
    show(browser, recording, tmp_path)

    def at_step(number: int) -> None:
        settle(browser)
        view = shown(browser)
        assert (view["step"], view["horizon"]) == (number, pytest.approx(times[number + 1]))
        assert view["from"] <= times[number + 1] <= view["until"]
        assert text_of(browser, "#steps [aria-current] .number") == str(number + 1)

    at_step(0)
    assert shown(browser)["messages"] == 0, "nothing was sent yet"
    click(browser, "#step-on")
    at_step(1)
    assert shown(browser)["messages"] == 3
    assert "leader" in text_of(browser, "#gutter .node"), "it crashes in the next step"
    browser.press("ArrowRight")
    at_step(2)
    assert "crashed" in text_of(browser, "#gutter .node")
    browser.press("ArrowLeft")
    at_step(1)
    assert "leader" in text_of(browser, "#gutter .node")
    click(browser, "#steps li:last-child button")
    at_step(5)
    assert browser.evaluate("document.getElementById('step-on').disabled")
    assert shown(browser)["messages"] > 0
    assert "applied 2.3" in text_of(browser, "#log tbody tr:nth-child(3)")
    assert "accepted 1.1" in text_of(browser, "#log tbody tr:nth-child(1)")
    click(browser, "#step-back")
    at_step(4)
    click(browser, "#reveal")
    assert shown(browser)["horizon"] == pytest.approx(recording.events[-1].at_us)


def test_hostile_text_is_shown_and_not_run(browser: Browser, tmp_path: Path) -> None:
    show(browser, hostile(), tmp_path)
    assert browser.evaluate("document.getElementById('title').textContent") == HOSTILE
    assert browser.evaluate("document.title") == HOSTILE
    assert browser.evaluate("document.querySelector('#facts dd').textContent") == HOSTILE
    assert browser.evaluate("document.querySelector('#steps .sentence').textContent") == HOSTILE
    point_at(browser, 1)
    assert browser.evaluate("document.querySelector('#tip p').textContent") == HOSTILE
    assert browser.evaluate("document.querySelector('#log .value').textContent") == HOSTILE
    assert browser.evaluate("typeof window.bad") == "undefined"
    assert browser.evaluate("document.querySelectorAll('script, b').length") == 2


def test_no_other_script_than_its_own_would_run(browser: Browser, tmp_path: Path) -> None:
    show(browser, lesson(), tmp_path)
    browser.evaluate(
        "(() => { const script = document.createElement('script');"
        "script.textContent = 'window.bad = 1'; document.body.append(script); })()"
    )
    assert browser.evaluate("typeof window.bad") == "undefined"
    browser.wait_for_console("Content Security Policy")
    browser.console.clear()


@pytest.mark.parametrize("name", LESSONS)
def test_every_lesson_can_be_walked_to_its_end(browser: Browser, name: str, tmp_path: Path) -> None:
    recording = LESSONS[name]()
    show(browser, recording, tmp_path)
    for _ in range(sum(isinstance(event, Note) for event in recording.events)):
        browser.press("ArrowRight")
    settle(browser)
    assert browser.evaluate("document.getElementById('step-on').disabled")
    assert shown(browser)["horizon"] == pytest.approx(recording.events[-1].at_us)
    assert lanes(browser, "node") == [f"Node {node}" for node in recording.nodes]


def test_a_node_without_a_role_is_called_what_it_was_started_as(
    browser: Browser, tmp_path: Path
) -> None:
    roles = "[...document.querySelectorAll('#gutter .node .role')].map(e => e.textContent)"
    show(browser, LESSONS["single-decree"](), tmp_path)
    click(browser, "#step-on")
    assert browser.evaluate(roles) == ["proposer", *["acceptor"] * 3, "proposer"]
    show(browser, lesson(), tmp_path)
    assert browser.evaluate(roles) == ["leader", "follower", "follower"]


@pytest.mark.parametrize("nodes", [(), (1,)])
def test_an_empty_recording_is_a_page_too(
    browser: Browser, nodes: tuple[int, ...], tmp_path: Path
) -> None:
    show(browser, Recording("Nothing", "", "", nodes, (), (), ()), tmp_path)
    assert len(lanes(browser, "node")) == len(nodes)


@pytest.mark.parametrize("width", [1400, 1000, 600])
def test_it_fits_into_the_window(browser: Browser, width: int, tmp_path: Path) -> None:
    browser.resize(width, 900)
    show(browser, lesson(), tmp_path)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.evaluate("canvas.clientWidth") > width / 2


def test_it_is_dark_where_the_reader_wants_it(browser: Browser, tmp_path: Path) -> None:
    show(browser, lesson(), tmp_path)
    corner = pixel("2, 60")
    assert min(browser.evaluate(corner)) > 200
    browser.prefer(**{**CALM, "prefers_color_scheme": "dark"})
    try:
        browser.wait_for(f"Math.max(...{corner}) < 60")
    finally:
        browser.prefer(**CALM)


def test_the_command_is_copied(browser: Browser, tmp_path: Path) -> None:
    show(browser, lesson(), tmp_path)
    click(browser, "#copy")
    browser.wait_for("document.getElementById('copy').textContent === 'Copied'")


def test_nothing_is_loaded(browser: Browser, short_chaos: Recording, tmp_path: Path) -> None:
    show(browser, short_chaos, tmp_path)
    urls = [url for url in browser.requested if not url.startswith("data:")]
    assert urls == [(tmp_path / "trace.html").as_uri()]


# -- without a browser ------------------------------------------------------------------------


def test_the_page_refers_to_nothing_outside() -> None:
    page = render(lesson())
    assert "http://" not in page and "https://" not in page
    assert re.findall(r"(?:src|href)=\S+", page) == ['href="data:,">']
    assert not re.search(r"@import|url\(", page)
    assert "default-src 'none'; style-src 'sha256-" in page and "script-src 'sha256-" in page


@pytest.mark.parametrize("recording", [lesson(), hostile()])
def test_the_page_holds_the_recording_whole(recording: Recording) -> None:
    page = render(recording)
    found = re.search(r'<script type="application/json" id="recording">(.*?)</script>', page, re.S)
    assert found and "<" not in found[1]
    assert msgspec.json.decode(found[1], type=Recording) == recording
    assert f"<title>{escape(recording.title)}</title>" in page


def test_text_that_is_not_unicode_is_refused() -> None:
    with pytest.raises(UnicodeEncodeError):
        render(Recording("a", "\ud800", "", (), (), (), ()))
