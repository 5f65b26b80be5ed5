"""The demo: the values of ``config.yaml`` that differ from the published settings of the sections.

Small enough for two CPU cores: few tokens, many epochs. Chosen on the validation split of avdigits.
"""

from pipeline_src.config.data import AudioConfig, MediaConfig
from pipeline_src.config.evaluation import EvaluateConfig
from pipeline_src.config.optim import AugmentConfig
from pipeline_src.config.training import FinetuneConfig, ModelConfig, PretrainConfig

MEDIA = MediaConfig(frame_size=32)
AUDIO = AudioConfig(num_mel_bins=64, high_freq_hz=4000)  # the recordings hold nothing above 4 kHz
MODEL = ModelConfig(
    size="tiny",
    img_size=32,
    target_length=96,
    overrides={"patch_size": 16, "audio_patch_size": [16, 16]},
)
PRETRAIN = PretrainConfig(
    epochs=22,
    batch_size=50,
    lr=1e-3,
    warmup_epochs=2,
    num_workers=0,
    num_frames=5,
    contrast_ratios=(0.0, 0.25, 0.5),
    temperature=0.1,
    joint_step=True,
)
FINETUNE = FinetuneConfig(
    epochs=50,
    batch_size=50,
    lr=1e-3,
    warmup_epochs=2,
    num_workers=0,
    num_frames=5,
    all_heads=True,
    modality_probs=(0.3, 0.35, 0.35),
    augment=AugmentConfig(
        time_shift=12,
        freq_shift=3,
        gain=0.5,
        noise=0.2,
        freq_mask=8,
        time_mask=12,
        image_shift=0.08,
        image_rotate=12,
        crop_scale=0.8,
    ),
)
EVALUATE = EvaluateConfig(num_workers=0)
