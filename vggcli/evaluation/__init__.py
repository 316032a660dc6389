"""Testing (section 3.2): centre crop and dense evaluation over scales, the posteriors they yield, and their error."""
