"""Methods side by side: table, plots and an HTML report."""
