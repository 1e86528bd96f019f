"""Two 64-px and four 32-px crops with little colour jitter, because colour is informative here."""

method = dict(
    out_dim=256,
    hidden_dim=512,
    head_batch_norm=True,
    head_batch_norm_apart=True,
    freeze_last_layer=0.0,
    teacher_temp=0.06,
    warmup_teacher_temp=0.06,
    warmup_teacher_temp_epochs=0.0,
    momentum=0.99,
    views=dict(
        global_size=64,
        local_size=32,
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
