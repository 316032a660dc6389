"""Training (section 3.1): the recipe, the loop, the plateau rule and the run folder."""
