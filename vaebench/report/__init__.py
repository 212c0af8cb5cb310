"""Reports: sections, tables and pages that are made from records alone."""
