"""One integer per step. Bump it when the bytes that the step writes change.

Snakemake does not see changes inside an imported package, so each rule passes its constant as a
param, and the DVC stages read the same constants from this file. It imports nothing: every job
loads it.
"""

PLAN = 3
DOWNLOAD = 4
TRANSCODE = 13
LOGMEL = 2
PACK = 4
INDEX = 6
PRETRAIN = 2
FINETUNE = 2
EVALUATE = 8
REPORT = 11
