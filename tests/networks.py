"""Sizes of networks that a test builds in milliseconds."""

WIDTHS = {
    "embed_dim": 16,
    "depth": 2,
    "num_heads": 2,
    "decoder_embed_dim": 8,
    "decoder_depth": 1,
    "decoder_num_heads": 2,
}
SMALL = {"img_size": 16, "patch_size": 8, "num_mel_bins": 16, "target_length": 24} | WIDTHS
