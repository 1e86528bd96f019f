"""Files written by sslbench: written atomically, sealed with checksums, read within size limits."""
