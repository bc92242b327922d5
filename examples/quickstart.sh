#!/bin/sh
# From nothing to predictions: installs what is missing, builds bpc, compiles examples/iris, trains, measures, fine-tunes
# and predicts. What it makes lies in build/quickstart.
set -eu
cd "$(dirname "$0")/.."

bold='' plain=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
    bold=$(printf '\033[1m') plain=$(printf '\033[0m')
fi
say() {
    printf '\n%s== %s%s\n' "$bold" "$*" "$plain"
}
run() {
    printf '$ %s\n' "$*"
    "$@"
}

say "Building bpc"
tests/install.sh build
cmake --preset release -DBUILD_TESTING=OFF >/dev/null
cmake --build build -j "$(nproc)" >/dev/null
echo "build/bpc is there"

mkdir -p build/quickstart
cp examples/iris/*.bp examples/iris/*.csv build/quickstart/
cd build/quickstart
rm -f ./*.safetensors ./*.jsonl predictions.csv
PATH=$PWD/..:$PATH

say "iris.bp, 150 flowers of three species: compiled to a program, which trains, measures and saves"
run bpc iris.bp -o iris
run ./iris --log iris.jsonl

say "What it makes of new flowers: raw rows in, names and probabilities out"
run ./iris predict --weights iris.safetensors new-flowers.csv -o predictions.csv
run cat predictions.csv

say "finetune.bp: the trained network with a new head for two species; first the head alone learns, then all of it"
run bpc finetune.bp -o finetune
run ./finetune --log finetune.jsonl
run ./finetune predict --weights pairs.safetensors new-flowers.csv

say "Done"
echo "Programs, weights and logs are in $PWD"
echo "Next: docs/language.md, or change build/quickstart/iris.bp and compile it again"
