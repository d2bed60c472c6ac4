# make demo: everything from nothing: environment, a long-tailed set of real images, its statistics, ACE trained on it.
# make test: environment, lint, types, every test.
# make faults: every fault of the README's table in full, and every promise taken away; 18 to 28 minutes on 2 cores.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= demo
SPLIT := digits-lt-exp-if20

.PHONY: demo test faults check clean

demo: $(VENV)/.installed
	$(BIN)/ltdata build digits --imbalance 20 --out $(OUT)/$(SPLIT)
	$(BIN)/ltdata stats $(OUT)/$(SPLIT)
	$(BIN)/python -m ace_ref.train --shards $(OUT)/$(SPLIT) --recipe tiny --out $(OUT)/ace
	$(BIN)/python -m ace_ref.evaluate --shards $(OUT)/$(SPLIT) --checkpoint $(OUT)/ace/model.safetensors

test: check
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

faults: $(VENV)/.installed
	cd tests && $(abspath $(BIN))/python -m faults --json ../results/faults.json

check: $(VENV)/.installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# torch and torchvision are asked for in one command with the constraints, so that pip takes one matching pair.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[train,photos,plot,demo,parquet,huggingface,distributed,test]"
	touch $@

clean:
	rm -rf $(VENV) demo runs dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
