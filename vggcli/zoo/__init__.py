"""The networks: a row of Table 1 becomes modules, with random weights or net A's."""
