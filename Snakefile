# From a list of raw videos to evaluated audio-visual checkpoints.
#
#   clip list -> download -> transcode -> logmel -> pack -> pretrain -> finetune -> eval -> report
#
# `snakemake all` builds and compares every run that the configuration lists;
# `snakemake -l` names every target.
from snakemake.utils import min_version

min_version("9.19")


# Of the project, from wherever Snakemake is called.
configfile: f"{workflow.current_basedir}/config/config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/terminal.smk"
include: "workflow/rules/download.smk"
include: "workflow/rules/transcode.smk"
include: "workflow/rules/logmel.smk"
include: "workflow/rules/pack.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/eval.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/targets.smk"


# Everything the configuration lists: data, checkpoints, metrics and the report.
rule all:
    default_target: True
    input:
        rules.report.input,
        target(catalog.listed_results),
    localrule: True
