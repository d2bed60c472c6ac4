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
# METHOD@KEY=VALUE@...: a method with other values. The last two make one change at a time: augmentation, method.
methods="${METHODS:-ce balanced-softmax ldam-drw ride ace ace-plus ace-plus@autoaugment=false@cutout_px=0 \
balanced-softmax@autoaugment=true@cutout_px=16}"
python="${PYTHON:-python3}"
export PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}"
piece_s="${PIECE_S:-500}" # leaves time to start, to stop after a step, and to write
trap 'exit 130' INT
trap 'exit 143' TERM
options=(--device "${DEVICE:-cuda}" ${RECIPE:+--recipe "$RECIPE"} ${EPOCHS:+--epochs "$EPOCHS"} --resume --quiet)

mkdir -p "$results" "$work" || exit 5
for seed in ${SEEDS:-0 1 2}; do
  for split in $splits; do
    if [ ! -e "$shards/$split/manifest.json" ]; then
      echo "reproduce: $shards/$split: not built; ltdata build ${split%%-*} --imbalance ${split##*-if}" >&2
      exit 4
    fi
    for entry in $methods; do
      name="$split-${entry//[@=]/-}-seed$seed"
      sets=()
      for value in $(tr @ ' ' <<< "$entry" | cut -s -d ' ' -f 2-); do sets+=(--set "$value"); done
      [ -e "$results/$name.json" ] && continue
      left=$((piece_s - SECONDS))
      if [ "$left" -lt 30 ]; then
        echo "reproduce: $name comes next; call again to go on" >&2
        exit 75
      fi
      timeout --foreground --preserve-status --signal INT --kill-after 25 "$left" "$python" -m ace_ref.train \
        --shards "$shards/$split" --method "${entry%%@*}" "${sets[@]}" --seed "$seed" --out "$work/$name" "${options[@]}" >&2
      code=$?
      if [ "$code" = 130 ] || { [ "$code" = 137 ] && [ -e "$work/$name/checkpoints" ]; }; then
        echo "reproduce: stopped in $name; call again to go on" >&2
        exit 75
      fi
      [ "$code" = 0 ] || exit "$code"
      cp "$work/$name/result.json" "$results/.$name.json" && mv "$results/.$name.json" "$results/$name.json" || exit 5
    done
  done
done
"$python" -m ace_ref.report "$results" --markdown > "$results/table.md" && cat "$results/table.md"
