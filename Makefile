# make demo    the main job on the recording that ships
# make test    the tests, with everything they need
# make lint    style and types
# make bench   what this machine does with the model
#
# PYTHON=python3.12        the Python to make the virtual environments with
# TORCH_INDEX=URL          where to take torch from: https://download.pytorch.org/whl/cpu spares gigabytes of CUDA
# PYTEST="-k monitor"      arguments for pytest

export PYTHON ?= python3
TORCH = torch==2.13.0
TORCH_INDEX ?=
PYTEST ?=

# What the tests drive: a sound server, a broker, certificates, the checkers of systemd, a witness of system calls, and a
# compiler for PyAudio.
TEST_PACKAGES = gcc python3-dev portaudio19-dev pulseaudio pulseaudio-utils libasound2-plugins mosquitto openssl strace \
	systemd
# Tests that need recordings of people run only when asked for. EDGE_SSER_SOAK=1 lets those marked soak run for hours.
SELECT = $(if $(EDGE_SSER_DATA),,-m "not shared_data")

.PHONY: demo test lint bench clean

demo: .venv/installed
	@.venv/bin/edge-sser listen --source edge_sser/samples/demo.flac

test: .venv-test/installed
	.venv-test/bin/pytest $(SELECT) $(PYTEST)

lint: .venv-test/installed
	.venv-test/bin/ruff check .
	.venv-test/bin/ruff format --check .
	.venv-test/bin/mypy

bench: .venv-test/installed
	@.venv-test/bin/edge-sser bench

.venv/installed: pyproject.toml
	@scripts/make_venv .venv --editable .
	@touch $@

.venv-test/installed: pyproject.toml
	@scripts/system_packages "make test" $(TEST_PACKAGES) || echo "some tests will be skipped" >&2
	@scripts/make_venv .venv-test $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) $(TORCH) \
		--editable ".[dev,plot,train,export,teacher,augment,tensorboard]"
	@.venv-test/bin/pip install --quiet --editable ".[mic]" >&2 || \
		echo "PyAudio could not be built, so tests with a microphone will be skipped: see above" >&2
	@touch $@

clean:
	rm -rf .venv .venv-test build *.egg-info
