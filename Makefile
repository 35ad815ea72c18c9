# Every target does all set-up it needs by itself on a new Debian 12 or Ubuntu machine: system packages (as root,
# else the command to run is printed), ONNX Runtime, models. What is there already is left alone, so a second run
# of any target costs seconds. Times are for two cores.

SHELL := /bin/bash
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# A Rust just installed is not yet on the PATH of the shell that installed it.
export PATH := $(PATH):$(HOME)/.cargo/bin

SEEDS ?= 100
SAMPLE ?= 300
PARTS ?= 1
PART ?= 1
DIFF ?=
# Sizes of campaigns; CAMPAIGN_FLAGS is for more of their options, as `-o json` or `--data-dir DIR`.
SEED ?= 1
KILLS ?= 100
IMAGES ?= 200
IMAGES_ALL ?= 50
SECONDS_EACH ?= 300
MINUTES ?= 120
OVERLOAD_SECONDS ?= 300
CAMPAIGN_FLAGS ?=
DEMO_FLAGS ?= --recogniser shelf-text --burst 168 --servers 3 --workers 2 --kill-leader 40 --kill-worker 60
PHOTOS ?= ../shared/data/photos/grocery-store

# One package selection, one profile, everywhere: another selection unifies features differently and compiles
# dependencies a second time.
CARGO_FLAGS := --release --locked --workspace

# First in each recipe line that calls cargo or runs what cargo built, since both look at CARGO_TARGET_DIR.
# The file is a site's own: a target directory outside the clone, prebuilt libraries. Without it all is built here.
ENV := if [ -f ../shared/tools/env.sh ]; then REBOUND_QUIET=1 source ../shared/tools/env.sh; fi;
REBOUND := "$${CARGO_TARGET_DIR:-target}/release/rebound"

.PHONY: help
help: ## What can be made (this list)
	@echo "Rebound: photo recognition in bursts, on three replicas that survive their leader."
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: rust
rust:
	@command -v cargo >/dev/null || { \
		echo "Rust is missing: cargo is not on the PATH."; \
		echo "Install it with rustup (see https://rustup.rs), then run this again:"; \
		echo "  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile default"; \
		exit 1; } >&2

.PHONY: setup
setup: rust ## System packages, ONNX Runtime and models; 1 to 2 minutes once, then a second
	@echo "setup: system packages, ONNX Runtime, models. 1 to 2 minutes the first time, then a second."
	@bash deploy/setup.sh system
	@bash deploy/setup.sh runtime
	@bash deploy/setup.sh models

.PHONY: tools
tools: ## What the campaigns need that break networks, disks and clocks, if root asks; half a minute once
	@bash deploy/setup.sh campaigns

.PHONY: runtime
runtime: ## ONNX Runtime's library alone; under a minute once
	@echo "runtime: fetches ONNX Runtime's library. Under a minute the first time."
	@bash deploy/setup.sh runtime

.PHONY: models
models: ## The recognisers' models alone; under a minute once
	@echo "models: puts the recognisers' models in place. Under a minute the first time."
	@bash deploy/setup.sh models

.PHONY: build
build: setup ## The binaries, rebound, rebound-agent and rebound-pricer; about 10 minutes once, then seconds
	@echo "build: compiles rebound, rebound-agent and rebound-pricer. About 10 minutes the first time (about 20 more where RocksDB"
	@echo "       must be compiled too), then seconds."
	@$(ENV) cargo build $(CARGO_FLAGS) --bins

.PHONY: demo
demo: build ## Photos through three servers and their workers, the leader killed midway; under 2 minutes
	@echo "demo: rebound dev $(DEMO_FLAGS)"
	@echo "      A burst of shelf photos; the leader and a worker are killed on the way. Under two minutes."
	@$(ENV) $(REBOUND) dev $(DEMO_FLAGS)

.PHONY: test
test: build ## All tests, documentation's examples too; about 8 minutes after the first build
	@echo "test: unit, script, simulation and process tests. About 8 minutes after the first build."
	@bash deploy/setup.sh python
	@$(ENV) if cargo nextest --version >/dev/null 2>&1; then \
		cargo nextest run $(CARGO_FLAGS) && cargo test $(CARGO_FLAGS) --doc; \
	else \
		cargo test $(CARGO_FLAGS); \
	fi

.PHONY: lint
lint: setup ## Format, clippy (warnings are errors), shell syntax; about 3 minutes once, then seconds
	@echo "lint: cargo fmt, clippy and bash -n. About 3 minutes after a first build, then seconds."
	@cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1 \
		|| rustup component add rustfmt clippy
	@for script in .ci/run $$(find . -name '*.sh' -not -path './target/*' -not -path './.*'); do \
		bash -n "$$script" || exit 1; \
	done
	@cargo fmt --all --check
	@$(ENV) cargo clippy $(CARGO_FLAGS) --all-targets -- -D warnings

.PHONY: deny
deny: rust ## Dependencies: licences, sources, doubles, each exception with its reason; 10 minutes once for cargo-deny, then seconds
	@echo "deny: cargo deny check bans licenses sources. Compiles cargo-deny once, about 10 minutes; then seconds."
	@cargo deny --version >/dev/null 2>&1 || { $(ENV) cargo install cargo-deny --locked --target-dir "$${CARGO_TARGET_DIR:-target}/deny"; }
	@cargo deny --locked check bans licenses sources

.PHONY: fuzz
fuzz: build ## The whole system in simulation, SEEDS=100 seeds of faults; half a second a seed
	@echo "fuzz: $(SEEDS) seeds of the simulated cluster. About half a second each."
	@$(ENV) $(REBOUND) sim fuzz --seeds $(SEEDS)

.PHONY: planted
planted: setup ## Builds with bugs on purpose, each of which the simulator must find, one the auditor too; about 15 minutes
	@echo "planted: builds with planted bugs, apart from the good binaries, and hunts each, 200 seeds at most. 15 minutes."
	@$(ENV) bash tests/planted.sh

.PHONY: weeks
weeks: build ## A wave on each weekday of four simulated weeks, with and without foresight; half a minute
	@echo "weeks: four simulated weeks of morning waves, cold and with foresight. Half a minute."
	@$(ENV) cargo test $(CARGO_FLAGS) --lib each_morning -- --include-ignored --nocapture

.PHONY: mutants
mutants: rust ## SAMPLE=300 small changes of the core (PARTS=4 PART=1: a quarter), or those of DIFF=main: do the tests notice? About two hours; can be stopped
	@echo "mutants: changes rebound-core a little, one change at a time, and runs its tests and the simulator's on each."
	@echo "         Ten to sixty seconds for each of $(if $(DIFF),the lines that differ from $(DIFF),$(SAMPLE)); what was found so far is told when it is stopped."
	@$(ENV) SAMPLE=$(SAMPLE) DIFF=$(DIFF) PARTS=$(PARTS) PART=$(PART) bash tests/mutants.sh

CAMPAIGNS := kill-leader kill-any power-cut partitions pauses disk-full clock overload soak

.PHONY: campaigns
campaigns: ## Every campaign of faults but upgrade in full size, one after another, see docs/CAMPAIGNS.md; about 3 hours
	@echo "campaigns: $(CAMPAIGNS). About 3 hours; make test has each in short form."
	@for campaign in $(CAMPAIGNS); do $(MAKE) $$campaign || exit 1; done

.PHONY: kill-leader
kill-leader: build ## kill -9 of the leader under load, KILLS=100 times; about 5 minutes
	@echo "kill-leader: the leader is killed $(KILLS) times under 200 jobs a second. About 3 seconds a kill."
	@$(ENV) $(REBOUND) bench failover --kills $(KILLS) --judge-gaps $(CAMPAIGN_FLAGS)

.PHONY: kill-any
kill-any: build ## kill -9 of any server, drawn by SEED=1, KILLS=100 times; about 5 minutes
	@echo "kill-any: any server is killed, $(KILLS) times under 200 jobs a second. About 3 seconds a kill."
	@$(ENV) $(REBOUND) bench failover --kills $(KILLS) --victim any --seed $(SEED) $(CAMPAIGN_FLAGS)

.PHONY: power-cut
power-cut: build tools ## Servers go on from disks without their last writes: IMAGES=200 of one, IMAGES_ALL=50 of all; as root
	@echo "power-cut: $(IMAGES) losses of power of one server, $(IMAGES_ALL) of all three. A second or two each. Needs root."
	@$(ENV) $(REBOUND) campaign power-cut --images $(IMAGES) --all $(IMAGES_ALL) --seed $(SEED) $(CAMPAIGN_FLAGS)

.PHONY: partitions
partitions: build tools ## The network breaks in 7 ways, SECONDS_EACH=300 each; as root, with iptables
	@echo "partitions: 7 breaks of the network of $(SECONDS_EACH) seconds each. Needs root and iptables."
	@$(ENV) $(REBOUND) campaign network --seconds $(SECONDS_EACH) --rate 20 --seed $(SEED) $(CAMPAIGN_FLAGS)

.PHONY: pauses
pauses: build ## Servers stand still (SIGSTOP) 40 times for 0.1 to 30 s, agents 10 times beyond their lease; about 9 minutes
	@echo "pauses: servers stand still 40 times for 0.1 to 30 seconds, agents 10 times beyond their lease. About 9 minutes."
	@$(ENV) $(REBOUND) campaign pause --seed $(SEED) $(CAMPAIGN_FLAGS)

.PHONY: disk-full
disk-full: build tools ## A server's disk fills up 10 times; as root; about 4 minutes
	@echo "disk-full: a server's disk fills up 10 times. About 4 minutes. Needs root."
	@$(ENV) $(REBOUND) campaign disk-full --seed $(SEED) $(CAMPAIGN_FLAGS)

.PHONY: clock
clock: build tools ## A server's clock jumps by an hour, both ways, leading and following; with faketime; about 5 minutes
	@echo "clock: one server's clock jumps four times, a minute each. About 5 minutes. Needs libfaketime."
	@$(ENV) $(REBOUND) campaign clock --seed $(SEED) $(CAMPAIGN_FLAGS)

.PHONY: overload
overload: build ## Ten times what the cluster can do, OVERLOAD_SECONDS=300, with grocery81 on a photo of PHOTOS=DIR; as root; 8 minutes
	@echo "overload: ten times the peak for $(OVERLOAD_SECONDS) seconds. About 3 minutes more. Needs root and two cores."
	@$(ENV) $(REBOUND) campaign overload --seconds $(OVERLOAD_SECONDS) --recogniser grocery81 \
		--photo "$$(ls $(PHOTOS)/*.jpg | head -1)" $(CAMPAIGN_FLAGS)

.PHONY: soak
soak: build ## MINUTES=120 of steady load: memory, open files, disks, digests
	@echo "soak: $(MINUTES) minutes of steady load, a look each minute."
	@$(ENV) $(REBOUND) campaign soak --rounds $(MINUTES) --round 55 --seed $(SEED) $(CAMPAIGN_FLAGS)

.PHONY: upgrade
upgrade: setup ## From this build to the one ahead under load, back, up again and finalized; two builds, then 2 minutes
	@echo "upgrade: builds this version and the one ahead of it, then takes a cluster there, back, and there for good."
	@$(ENV) bash tests/upgrade.sh --seed $(SEED) $(CAMPAIGN_FLAGS)

.PHONY: bench
bench: build ## Throughput, latency, a long queue and failover of real processes, see docs/BENCHMARKS.md; about 5 minutes
	@echo "bench: rebound bench throughput, latency, queue and failover, one after another. About 5 minutes."
	@$(ENV) for bench in throughput "throughput --command" latency queue failover; do \
		echo; echo "rebound bench $$bench"; $(REBOUND) bench $$bench || exit 1; \
	done

.PHONY: bench-agent
bench-agent: build ## One agent beside plain Python on the photos of PHOTOS=DIR, 5 interleaved runs; about 2 minutes
	@echo "bench-agent: one agent with grocery81 beside plain Python onnxruntime, same photos, same threads. 2 minutes."
	@bash deploy/setup.sh python
	@$(ENV) python3 tests/reference/bench_agent.py --rebound $(REBOUND) --photos $(PHOTOS)

.PHONY: clean-data
clean-data: ## Remove what setup fetched (ONNX Runtime, models, Python); builds stay; a second
	@echo "clean-data: removes the fetched ONNX Runtime, models and Python environment. The next setup fetches them anew."
	@rm -rf -- "$${XDG_CACHE_HOME:-$$HOME/.cache}"/rebound/{onnxruntime,python} .cache
	@rm -f -- agent/recognisers/shelf-text/*.onnx
