"""The papers of the methods, as BibTeX."""

PAPERS = {
    "avsiam": """@inproceedings{lin2024avsiam,
  title = {Siamese Vision Transformers are Scalable Audio-visual Learners},
  author = {Lin, Yan-Bo and Bertasius, Gedas},
  booktitle = {European Conference on Computer Vision (ECCV)},
  year = {2024},
  note = {arXiv:2403.19638}
}""",
    "cav_mae": """@inproceedings{gong2023cavmae,
  title = {Contrastive Audio-Visual Masked Autoencoder},
  author = {Gong, Yuan and Rouditchenko, Andrew and Liu, Alexander H. and Harwath, David and
            Karlinsky, Leonid and Kuehne, Hilde and Glass, James},
  booktitle = {International Conference on Learning Representations (ICLR)},
  year = {2023},
  note = {arXiv:2210.07839}
}""",
    "cav_mae_sync": """@inproceedings{araujo2025cavmaesync,
  title = {{CAV-MAE Sync}: Improving Contrastive Audio-Visual Mask Autoencoders via Fine-Grained
           Alignment},
  author = {Araujo, Edson and Rouditchenko, Andrew and Gong, Yuan and Bhati, Saurabhchand and
            Thomas, Samuel and Kingsbury, Brian and Karlinsky, Leonid and Feris, Rogerio and
            Glass, James R. and Kuehne, Hilde},
  booktitle = {Conference on Computer Vision and Pattern Recognition (CVPR)},
  year = {2025},
  note = {arXiv:2505.01237}
}""",
    "mavil": """@inproceedings{huang2023mavil,
  title = {{MAViL}: Masked Audio-Video Learners},
  author = {Huang, Po-Yao and Sharma, Vasu and Xu, Hu and Ryali, Chaitanya and Fan, Haoqi and
            Li, Yanghao and Li, Shang-Wen and Ghosh, Gargi and Malik, Jitendra and
            Feichtenhofer, Christoph},
  booktitle = {Advances in Neural Information Processing Systems (NeurIPS)},
  year = {2023},
  note = {arXiv:2212.08071}
}""",
    "diffmavil": """@article{nunez2023diffmavil,
  title = {Diffusion Models as Masked Audio-Video Learners},
  author = {Nunez, Elvis and Jin, Yanzi and Rastegari, Mohammad and Mehta, Sachin and
            Horton, Maxwell},
  journal = {arXiv preprint arXiv:2310.03937},
  year = {2023}
}""",
}
