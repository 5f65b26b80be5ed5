"""CAV-MAE Sync (arXiv:2505.01237)."""

from pipeline_src.methods.cav_mae_sync.config import CAVMAESyncConfig
from pipeline_src.methods.common.method import Method

METHOD = Method(
    config=CAVMAESyncConfig,
    network="pipeline_src.methods.cav_mae_sync.network:CAVMAESync",
    objective="pipeline_src.methods.cav_mae_sync.objective:CAVMAESyncPretrain",
    image_weights="pipeline_src.methods.cav_mae.weights:IMAGE_WEIGHTS",
    published="pipeline_src.methods.cav_mae_sync.weights:PUBLISHED",
    citation="""@inproceedings{araujo2025cavmaesync,
  title = {{CAV-MAE} Sync: Improving Contrastive Audio-Visual Mask Autoencoders via Fine-Grained
           Alignment},
  author = {Araujo, Edson and Rouditchenko, Andrew and Gong, Yuan and Bhati, Saurabhchand and
            Thomas, Samuel and Kingsbury, Brian and Karlinsky, Leonid and Feris, Rogerio and
            Glass, James R. and Kuehne, Hilde},
  booktitle = {Conference on Computer Vision and Pattern Recognition (CVPR)},
  year = {2025},
  note = {arXiv:2505.01237}
}""",
)
