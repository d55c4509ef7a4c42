"""The mesh of a run: fused, cut out, cleaned, coloured, textured and written."""
