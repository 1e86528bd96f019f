"""All recipes, as mmengine Python configs in one folder per purpose."""
