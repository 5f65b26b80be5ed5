"""MAViL (arXiv:2212.08071) and DiffMAViL (arXiv:2310.03937), one family of networks."""

from dataclasses import replace

from pipeline_src.methods.common.method import Method
from pipeline_src.methods.mavil.config import DiffMAViLConfig, MAViLConfig

METHOD = Method(
    config=MAViLConfig,
    network="pipeline_src.methods.mavil.network:MAViL",
    objective="pipeline_src.methods.mavil.objective:MAViLPretrain",
    image_weights="pipeline_src.methods.mavil.weights:IMAGE_WEIGHTS",
    citation="""@inproceedings{huang2023mavil,
  title = {{MAViL}: Masked Audio-Video Learners},
  author = {Huang, Po-Yao and Sharma, Vasu and Xu, Hu and Ryali, Chaitanya and Fan, Haoqi and
            Li, Yanghao and Li, Shang-Wen and Ghosh, Gargi and Malik, Jitendra and
            Feichtenhofer, Christoph},
  booktitle = {Advances in Neural Information Processing Systems (NeurIPS)},
  year = {2023},
  note = {arXiv:2212.08071}
}""",
)
DIFFUSION = replace(
    METHOD,
    config=DiffMAViLConfig,
    citation="""@article{nunez2023diffmavil,
  title = {Diffusion Models as Masked Audio-Video Learners},
  author = {Nunez, Elvis and Jin, Yanzi and Rastegari, Mohammad and Mehta, Sachin and
            Horton, Maxwell},
  journal = {arXiv preprint arXiv:2310.03937},
  year = {2023}
}""",
)
