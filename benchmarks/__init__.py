"""One file per evaluation protocol, and the steps that several of them share."""
