"""The networks and their weights: Table 1 becomes modules, modules become files and come back."""
