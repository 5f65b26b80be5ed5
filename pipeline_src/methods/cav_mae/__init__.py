"""CAV-MAE (arXiv:2210.07839)."""

from pipeline_src.methods.cav_mae.config import CAVMAEConfig
from pipeline_src.methods.common.method import Method

METHOD = Method(
    config=CAVMAEConfig,
    network="pipeline_src.methods.cav_mae.network:CAVMAE",
    objective="pipeline_src.methods.cav_mae.objective:CAVMAEPretrain",
    image_weights="pipeline_src.methods.cav_mae.weights:IMAGE_WEIGHTS",
    published="pipeline_src.methods.cav_mae.weights:PUBLISHED",
    citation="""@inproceedings{gong2023cavmae,
  title = {Contrastive Audio-Visual Masked Autoencoder},
  author = {Gong, Yuan and Rouditchenko, Andrew and Liu, Alexander H. and Harwath, David and
            Karlinsky, Leonid and Kuehne, Hilde and Glass, James},
  booktitle = {International Conference on Learning Representations (ICLR)},
  year = {2023},
  note = {arXiv:2210.07839}
}""",
)
