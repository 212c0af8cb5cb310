"""The training of a pack of cells: one step, one loop; it writes nothing but its checkpoint."""
