"""Who may do what: accounts, the audit log, an authority's certificates."""
