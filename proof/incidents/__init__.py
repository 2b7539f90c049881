"""Incidents: recordings of real nodes told, drawn, and judged like simulated runs."""
