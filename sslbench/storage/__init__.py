"""Files of our own: written whole or not at all, sealed with checksums, read within bounds."""
