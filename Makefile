# make demo    the main job on the recording that ships
# make test    the tests, with everything they need
# make lint    style and types
# make bench   what this machine does with the model
# make docs    the documents as a site, in site/; a link that leads nowhere fails
#
# make lock          the newest versions into packaging/device-requirements.txt, with hashes
# make supply-chain  the lock agrees, installs by its hashes, and has no known hole
# make sbom          what a device installs, as dist/edge-sser.cdx.json (CycloneDX)
# make minimum       the lowest versions that pyproject.toml allows, with a core of the tests
# make dist          wheel and sdist, in dist/
# make deb           a Debian package for this machine, in dist/; make deb-try installs it in a bare Debian root
#
# PYTHON=python3.12        the Python to make the virtual environments with
# TORCH_INDEX=URL          where to take torch from: https://download.pytorch.org/whl/cpu spares gigabytes of CUDA
# PYTEST="-k monitor"      arguments for pytest; "-n 0" runs the tests one after another, as a debugger wants them

export PYTHON ?= python3
TORCH = torch==2.13.0
TORCH_INDEX ?=
PYTEST ?=

# What the tests drive: a sound server, a broker, certificates, the checkers of systemd, a witness of system calls, a
# browser with a font, a decoder of what phones record, and a compiler for PyAudio.
TEST_PACKAGES = gcc python3-dev portaudio19-dev pulseaudio pulseaudio-utils libasound2-plugins mosquitto openssl strace \
	systemd chromium fonts-dejavu-core groff ffmpeg
# Tests that need recordings of people run only when asked for. EDGE_SSER_SOAK=1 lets those marked soak run for hours.
SELECT = $(if $(EDGE_SSER_DATA),,-m "not shared_data")
# Most tests wait: for audio to be spoken, a broker to come back, a watchdog to bark. Two cores hold four at once. Each
# process begins with a stretch of its own, so that a corpus or a network is made in one or two of them, not in all; and
# computes on one thread, since threads of several wait for each other.
PARALLEL = -n 4 --dist worksteal

.PHONY: demo test lint bench docs lock supply-chain sbom minimum dist deb deb-try clean

demo: .venv/installed
	@.venv/bin/edge-sser listen --source edge_sser/data/demo.flac || [ $$? -eq 130 ]  # Ctrl-C

test: .venv-test/installed
	OMP_NUM_THREADS=1 .venv-test/bin/pytest $(PARALLEL) $(SELECT) $(PYTEST)

lint: .venv-test/installed
	.venv-test/bin/ruff check .
	.venv-test/bin/ruff format --check .
	.venv-test/bin/mypy

bench: .venv-test/installed
	@.venv-test/bin/edge-sser bench

docs: .venv-docs/installed
	@NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict

lock: .venv-release/installed
	@.venv-release/bin/python scripts/supply_chain.py lock

supply-chain: .venv-release/installed
	@.venv-release/bin/python scripts/supply_chain.py check

sbom: .venv-release/installed
	@mkdir -p dist
	@.venv-release/bin/python scripts/supply_chain.py sbom dist/edge-sser.cdx.json

minimum: .venv-release/installed
	@scripts/minimum .venv-release/bin/uv

dist: .venv-release/installed
	@.venv-release/bin/python -m build --outdir dist .
	@.venv-release/bin/twine check --strict dist/*.whl dist/*.tar.gz

# With the Python of the system: the package uses it.
deb:
	@/usr/bin/python3 packaging/deb/build.py dist

deb-try: deb
	@packaging/deb/try dist/edge-sser_*_$$(dpkg --print-architecture).deb build/deb

.venv/installed: pyproject.toml
	@scripts/make_venv .venv --editable .
	@touch $@

.venv-test/installed: pyproject.toml
	@scripts/system_packages "make test" $(TEST_PACKAGES) || echo "some tests will be skipped" >&2
	@scripts/make_venv .venv-test $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) $(TORCH) \
		--editable ".[dev,notify,apprise,plot,web,archive,train,export,teacher,augment,references,tensorboard,tensorrt-rtx,release]"
	@.venv-test/bin/pip install --quiet --no-compile --editable ".[mic]" >&2 || \
		echo "PyAudio could not be built, so tests with a microphone will be skipped: see above" >&2
	@touch $@

.venv-release/installed: pyproject.toml
	@scripts/make_venv .venv-release --editable ".[release]"
	@touch $@

.venv-docs/installed: pyproject.toml
	@scripts/make_venv .venv-docs --editable ".[docs]"
	@touch $@

clean:
	rm -rf .venv .venv-test .venv-docs .venv-release site build dist *.egg-info
