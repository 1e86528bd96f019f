"""Every recipe, as mmengine Python configs; a folder is named by what its recipes are for."""
