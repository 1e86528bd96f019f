"""Crops of photos/*; a teacher so slow that it stays near the weights it starts from."""

method = dict(
    freeze_last_layer=0.0,
    teacher_temp=0.07,
    warmup_teacher_temp=0.07,
    warmup_teacher_temp_epochs=0.0,
    momentum=0.9995,
    views=dict(
        local_crops=4,
        global_scale=(0.4, 1.0),
        local_scale=(0.15, 0.5),
        brightness=0.4,
        contrast=0.4,
        saturation=0.1,
        hue=0.02,
        grayscale=0.0,
        blur=(0.0, 0.0, 0.0),
        solarize=(0.0, 0.0, 0.0),
    ),
)
