"""One integer per step. Bump it when the bytes that the step writes change.

Snakemake does not see changes inside an imported package, so each rule passes its constant as a
param, and the DVC stages read the same constants from this file. It imports nothing: every job
loads it.
"""

PLAN = 1
DOWNLOAD = 1
TRANSCODE = 1
LOGMEL = 1
PACK = 1
INDEX = 2
PRETRAIN = 1
FINETUNE = 1
EVALUATE = 1
REPORT = 1
