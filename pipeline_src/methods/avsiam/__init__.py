"""AVSiam (arXiv:2403.19638)."""

from pipeline_src.methods.avsiam.config import AVSiamConfig
from pipeline_src.methods.common.method import Method

METHOD = Method(
    config=AVSiamConfig,
    network="pipeline_src.methods.avsiam.network:AVSiam",
    objective="pipeline_src.methods.avsiam.objective:AVSiamPretrain",
    image_weights="pipeline_src.methods.avsiam.weights:IMAGE_WEIGHTS",
    published="pipeline_src.methods.avsiam.weights:PUBLISHED",
    citation="""@inproceedings{lin2024avsiam,
  title = {Siamese Vision Transformers are Scalable Audio-visual Learners},
  author = {Lin, Yan-Bo and Bertasius, Gedas},
  booktitle = {European Conference on Computer Vision (ECCV)},
  year = {2024},
  note = {arXiv:2403.19638}
}""",
)
