"""Raw clip -> 16 kHz mono FLAC and JPEG frames; the only package that knows ffmpeg."""
