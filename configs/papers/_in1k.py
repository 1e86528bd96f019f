"""ImageNet-1K; --data sets its folder."""

data = dict(source="imagenet-1k")  # [P]
about = dict(dataset="IN-1K", images=1_281_167)
