# make serve    the service on the shipped bundle, at http://localhost:3000
# make test     the test suite
# make check    ruff, format, mypy --strict, tests with warnings as errors; CI runs it and .ci/versions
# make bundle DATA=DIR    train, export, calibrate and evaluate the shipped bundle from class-folder tars; training goes on
#                         from runs/cifar10* if they are there: delete them to start over

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable
export BENTOML_DO_NOT_TRACK ?= True

.PHONY: serve test check bundle
.DELETE_ON_ERROR:

serve: $(VENV)/.serving
	$(BIN)/bentoml serve

# For the test of examples/cpp, which is skipped without them.
HEADERS := $(VENV)/include/onnxruntime
$(HEADERS): | $(BIN)/python
	bash examples/cpp/headers.sh $@ || echo "no ONNX Runtime headers: examples/cpp is not tested"

# For the test of examples/web, likewise.
WEB := examples/web/node_modules/onnxruntime-web
$(WEB): examples/web/package.json
	npm install --prefix examples/web --silent --no-audit --no-fund --no-package-lock && touch $@ \
		|| echo "no onnxruntime-web: examples/web is not tested"

test: $(VENV)/.dev
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

check: $(VENV)/.dev $(if $(shell command -v npm),$(HEADERS) $(WEB))
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

RUN := runs/cifar10
VAL := $(DATA)/cifar10-val.tar
TRAIN = $(BIN)/python -m train --recipe cifar-fast --data $(DATA)/cifar10-train.tar --val $(VAL)@1/2 --resume
EXPOSE = $(TRAIN) --method oe --set weight=0.5 --set outliers_per_image=0.5 --label-smoothing 0 --augment crop-flip --warmup 0 $(AUX)
AUX = --aux $(DATA)/aux-cifar100.tar --aux $(DATA)/aux-tinyimagenet.tar
bundle: $(VENV)/.dev
	@test -f "$(VAL)" || { echo "error: make bundle DATA=DIR needs DIR/cifar10-train.tar, cifar10-val.tar, aux-*.tar and ood-*.tar"; exit 1; }
	$(TRAIN) --out $(RUN)-classifier
	$(EXPOSE) --init $(RUN)-classifier/checkpoint.safetensors --epochs 8 --learning-rate 0.4 --out $(RUN)-outliers
	$(BIN)/python -m benchmarks.noise $(RUN)-noise.npz
	$(EXPOSE) --aux $(RUN)-noise.npz --init $(RUN)-outliers/checkpoint.safetensors --epochs 2 --learning-rate 0.1 --out $(RUN)
	$(BIN)/python -m export --checkpoint $(RUN)/checkpoint.safetensors --calibration $(VAL)@1/2 --score energy \
		--id $(VAL)@2/2 --ood cifar100=$(DATA)/ood-cifar100.tar --ood tinyimagenet=$(DATA)/ood-tinyimagenet.tar \
		--ood textures=$(DATA)/ood-textures.tar --ood svhn=$(DATA)/ood-svhn.tar --out bundles/cifar10

# An extra is installed again when what it is made of changes.
$(VENV)/.serving $(VENV)/.dev: $(VENV)/.%: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) ".[$*]"
	@touch $@

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
