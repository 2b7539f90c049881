"""A museum of bugs: known faults of consensus systems, each seen to fail here and to hold here."""
