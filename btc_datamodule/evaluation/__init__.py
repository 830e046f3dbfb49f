"""Who may see what: splits, origins, targets, scaling, and what training fixes."""
