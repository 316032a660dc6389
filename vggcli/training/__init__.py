"""Training (section 3.1): what is asked for becomes a plan, a session and a run folder; the recipe, the loop, the rules."""
