"""The one launcher of nodes as processes: for the demo, drills, proofs and benchmarks."""
