"""Two 64-px and four 32-px crops that keep the class visible; too small to blur or solarise."""

method = dict(
    out_dim=256,
    hidden_dim=512,
    head_batch_norm=True,
    head_batch_norm_apart=True,  # joint (official) statistics leave iBOT's output uniform
    freeze_last_layer=0.0,
    teacher_temp=0.04,
    warmup_teacher_temp=0.04,
    warmup_teacher_temp_epochs=0.0,
    momentum=0.99,
    views=dict(
        global_size=64,
        local_size=32,
        local_crops=4,
        global_scale=(0.5, 1.0),
        local_scale=(0.2, 0.5),
        brightness=0.6,
        contrast=0.6,
        saturation=0.4,
        grayscale=0.5,
        blur=(0.0, 0.0, 0.0),
        solarize=(0.0, 0.0, 0.0),
    ),
)
