# SPDX-License-Identifier: GPL-2.0-or-later
# A thin front over meson and ninja.  Each target alone is enough on a fresh Debian 12.
BUILD ?= build
PYTHON ?= python3

all: $(BUILD)/build.ninja
	ninja -C $(BUILD)

deps:
	scripts/install-deps

$(BUILD)/build.ninja: | deps
	meson setup $(BUILD)

guest: deps
	scripts/fetch-guest
	scripts/build-initrd

demo: deps all guest
	$(PYTHON) scripts/demo $(BUILD)

check: deps all guest
	$(PYTHON) scripts/run-tests $(BUILD) --no-suite long

check-long: deps all guest
	$(PYTHON) scripts/run-tests $(BUILD)

# The whole VM and the unit tests under ASan+UBSan and under TSan.
check-sanitize: deps guest
	scripts/check-sanitize asan unit guest
	scripts/check-sanitize tsan unit guest

bench: deps all guest
	scripts/install-deps bench
	$(PYTHON) tests/bench/run $(BUILD)

# Ten minutes each; with FUZZ_SECONDS another time.
fuzz: deps
	scripts/fuzz $${FUZZ_SECONDS:-600}

clean:
	rm -rf $(BUILD)

.PHONY: all deps guest demo check check-long check-sanitize bench fuzz clean
