"""What members say to each other, at random: for hypothesis."""

from typing import get_args

from hypothesis import strategies as st

from kvstore.peers.frames import PeerMessage

st.register_type_strategy(int, st.integers(0, (1 << 63) - 1))
st.register_type_strategy(float, st.floats(allow_nan=False))  # no time is, and none equals itself

MESSAGES: st.SearchStrategy[PeerMessage] = st.sampled_from(get_args(PeerMessage)).flatmap(
    st.from_type
)
"""Of every kind, with anything in it that its type allows."""
