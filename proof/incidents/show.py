"""`kvstore incident show`: the story, the verdict, and the page."""

from pathlib import Path

from proof.incidents.alignment import offsets_s, passages
from proof.incidents.checks import check
from proof.incidents.picture import picture
from proof.incidents.recordings import load
from proof.incidents.story import story
from proof.simulation.tell.page import render

BROKEN = 1


def show(path: Path, html: Path | None) -> int:
    """Print the story; write the page if it is wanted. 0 if nothing is broken.

    Raises InvalidArgument for a file that is no incident, OSError if the page cannot be written.
    """
    incident = load(path)
    known = passages(incident)
    offsets = offsets_s(incident, known)
    lines, broken = story(incident, offsets), check(incident)
    for line in lines:
        print(line)
    for node, why in incident.missing.items():
        print(f"node {node} is not in it: {why}")
    entries = sum(len(one.entries) for one in incident.nodes.values())
    print(
        f"\n{entries:,} events of {len(incident.nodes)} nodes, "
        f"{len(known):,} messages with both ends."
    )
    if broken:
        print("BROKEN: " + "\nBROKEN: ".join(map(str, broken)))
    else:
        print("Every invariant that a recording shows holds.")
    if html is not None:
        page = render(picture(incident, offsets, known, lines, broken, path.name))
        html.write_text(page, encoding="utf-8")
        print(f"The picture: {html}")
    return BROKEN if broken else 0
