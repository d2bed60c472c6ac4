#!/usr/bin/env bash
# Run the CIFAR table of the README on one CUDA device: every split, method and seed, unattended, without a network.
#
#     scripts/reproduce.sh SHARDS [RESULTS]
#
# SHARDS holds folders that `ltdata build` wrote, such as SHARDS/cifar100-lt-exp-if100. RESULTS (default: results/cuda)
# gets one result.json per training, and table.md made from them. A call ends within 9 minutes: exit 0 when all is done,
# 75 when there is more to do, else the code of the training that failed. Call it again and it goes on where it stopped:
#
#     until scripts/reproduce.sh shards; do [ $? = 75 ] || break; done
#
# SPLITS, METHODS and SEEDS choose a part of the table; PYTHON the interpreter; WORK where unfinished trainings lie.
# For a rehearsal without a GPU: DEVICE=cpu RECIPE=tiny EPOCHS=2.
set -uo pipefail
here="$(cd "$(dirname "$0")/.." && pwd)"
shards="${1:?usage: scripts/reproduce.sh SHARDS [RESULTS]}"
results="${2:-$here/results/cuda}"
work="${WORK:-runs/reproduce}"
splits="${SPLITS:-cifar100-lt-exp-if100 cifar10-lt-exp-if100 cifar100-lt-exp-if50 cifar10-lt-exp-if50}"
methods="${METHODS:-ce balanced-softmax ldam-drw ride ace ace-plus}"
python="${PYTHON:-python3}"
export PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}"
piece_s="${PIECE_S:-520}" # leaves time to start, to stop after a step, and to write
options=(--device "${DEVICE:-cuda}" ${RECIPE:+--recipe "$RECIPE"} ${EPOCHS:+--epochs "$EPOCHS"} --resume --quiet)

mkdir -p "$results" "$work" || exit 5
for seed in ${SEEDS:-0 1 2}; do
  for split in $splits; do
    if [ ! -e "$shards/$split/manifest.json" ]; then
      echo "reproduce: $shards/$split: not built; ltdata build ${split%%-*} --imbalance ${split##*-if}" >&2
      exit 4
    fi
    for method in $methods; do
      name="$split-$method-seed$seed"
      [ -e "$results/$name.json" ] && continue
      left=$((piece_s - SECONDS))
      if [ "$left" -lt 30 ]; then
        echo "reproduce: $name comes next; call again to go on" >&2
        exit 75
      fi
      timeout --preserve-status --signal INT --kill-after 25 "$left" "$python" -m ace_ref.train \
        --shards "$shards/$split" --method "$method" --seed "$seed" --out "$work/$name" "${options[@]}"
      code=$?
      if [ "$code" = 130 ]; then
        echo "reproduce: stopped in $name; call again to go on" >&2
        exit 75
      fi
      [ "$code" = 0 ] || exit "$code"
      cp "$work/$name/result.json" "$results/.$name.json" && mv "$results/.$name.json" "$results/$name.json" || exit 5
    done
  done
done
"$python" -m ace_ref.report "$results" --markdown > "$results/table.md" && cat "$results/table.md"
