"""ImageNet-1K, whose folder is given with --data."""

data = dict(source="imagenet-1k")  # [P]
about = dict(dataset="IN-1K", images=1_281_167)
