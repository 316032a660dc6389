"""What people look at: tables, plots, contact sheets and live progress. Nothing here decides where it is shown."""
