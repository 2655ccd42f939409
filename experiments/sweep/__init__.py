"""Many runs of one study, that differ in some fields: over processes of this machine, or as a SLURM array.

python -m experiments.sweep --config=configs/demo.py --sweep="classifier.learning_rate=1e-3,1e-2;seed=0,1" --out=OUT

OUT/sweep.json says what the members are, OUT/ID is the workdir of each, with what it printed in `log.txt`. A member is
whole when its `results.json` is there; a sweep that is begun again runs what is missing or failed and nothing else.

    members   which runs there are, as data: from a file or a grid
    ledger    sweep.json, and how far each member is, read from its files alone
    local     processes of this machine         slurm   a job array
    table     sweep.csv                         page    sweep.html
"""
