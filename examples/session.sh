#!/usr/bin/env bash
# A whole session on a folder of photos (one folder a class, with or without train/ and val/); without one, on the embedded
# set. Usage: examples/session.sh [FOLDER] [RUN]
set -euo pipefail
photos=${1:-shapes}
run=${2:-runs/session}

vgg models A --crop 64 --width 0.25                      # what is going to be trained
vgg train --data "$photos" --arch A --recipe tiny --epochs 20 --out "$run"
vgg eval --data "$photos" --weights "$run"               # centre crop at the training scale
vgg eval --data "$photos" --weights "$run" --dense --scales 64 72 80 --save-scores "$run/dense.safetensors"
cat "$run/evaluations.jsonl"                             # every figure, with its protocol
vgg features --data "$photos" --weights "$run" --gap --out "$run/features.safetensors"   # a row an image, for other programs
