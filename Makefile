# Sluice. `make help` lists the targets. CONFIG=debug|release|asan|tsan|fuzz, CC=gcc|clang, V=1, WERROR=0.
# CPPFLAGS, CFLAGS and LDFLAGS belong to the user and come last.

CONFIG ?= debug
# An environment without PATH (env -i) would find no command at all.
PATH ?= /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
ifeq ($(origin CC),default)
CC := $(if $(filter fuzz,$(CONFIG)),clang,gcc)
endif
# Each compiler has objects of its own: build/debug is gcc's, build/debug-clang the other's.
BUILD := build/$(CONFIG)$(if $(findstring clang,$(CC)),$(if $(filter-out fuzz,$(CONFIG)),-clang))
WERROR ?= 1

WARNINGS := -Wall -Wextra -Wconversion -Wsign-conversion -Wshadow -Wvla -Wformat=2 -Wcast-qual \
  -Wundef -Wstrict-prototypes -Wmissing-prototypes
ifneq ($(WERROR),0)
WARNINGS += -Werror
endif

OPTIMISE_debug := -O1 -g3
OPTIMISE_release := -O2 -g -DNDEBUG -fstack-protector-strong -D_FORTIFY_SOURCE=2
OPTIMISE_asan := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
OPTIMISE_tsan := -O1 -g -fsanitize=thread -fno-omit-frame-pointer
OPTIMISE_fuzz := -O1 -g -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all
ifndef OPTIMISE_$(CONFIG)
$(error CONFIG must be debug, release, asan, tsan or fuzz, not '$(CONFIG)')
endif

LLHTTP_DIR := /usr/share/llhttp
CPPFLAGS_ALL := -I. -D_GNU_SOURCE -DLLHTTP_STRICT_MODE=1 -isystem /usr/share/include/llhttp \
  -isystem /usr/include/mysql $(CPPFLAGS)
CFLAGS_ALL := -std=c17 -pthread -msse4.2 $(OPTIMISE_$(CONFIG)) $(WARNINGS) $(CFLAGS)
LDFLAGS_ALL := -pthread $(OPTIMISE_$(CONFIG)) $(LDFLAGS)
LIBS := -llmdb -luv -lcjson -lmysqlclient -lssl -lcrypto -lcurl -lz -lm

FOLDERS := core wal storage http cli
SOURCES := $(sort $(wildcard $(FOLDERS:%=%/*.c) core/*/*.c))
OBJECTS := $(SOURCES:%.c=$(BUILD)/%.o)
LLHTTP_OBJECTS := $(addprefix $(BUILD)/llhttp/,api.o http.o llhttp.o)
# Everything but main(): what tests, fuzz targets and benchmarks link with.
LIBRARY := $(BUILD)/libsluice.a

Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %-6s %s\n' '$(1)' '$(2)')

.DEFAULT_GOAL := all
.PHONY: all
all: $(BUILD)/sluice ## build the server: build/<config>/sluice, and build/sluice for the last one built
	$(Q)ln -sfn $(BUILD:build/%=%)/sluice build/sluice

$(BUILD)/sluice: $(BUILD)/cli/main.o $(LIBRARY)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ $(LIBS)

$(LIBRARY): $(filter-out $(BUILD)/cli/main.o,$(OBJECTS)) $(LLHTTP_OBJECTS)
	$(call say,AR,$@)
	$(Q)rm -f $@ && ar rcs $@ $^

$(BUILD)/%.o: %.c Makefile
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<

# The assembler reads the page in, so the compiler's dependency files do not know of it.
$(BUILD)/http/dashboard.o: $(wildcard http/dashboard.*)
$(BUILD)/http/docs.o: $(wildcard http/docs.*)
$(BUILD)/http/openapi.o: http/openapi.json

# Debian's generated parser: strict mode, and apart from our warnings.
$(BUILD)/llhttp/%.o: $(LLHTTP_DIR)/%.c Makefile
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) -isystem /usr/share/include/llhttp -DLLHTTP_STRICT_MODE=1 -std=c17 -w \
	  $(OPTIMISE_$(CONFIG)) $(CFLAGS) -c -o $@ $<

# ---- test programs: one per tests/unit/test_*.c, tests/integration/test_*.c, tests/sim/*.c, fakes linked in ----
FAKE_OBJECTS := $(patsubst %.c,$(BUILD)/%.o,$(sort $(wildcard tests/fakes/*.c)))
UNIT_PROGRAMS := $(patsubst %.c,$(BUILD)/%,$(sort $(wildcard tests/unit/test_*.c)))
INTEGRATION_PROGRAMS := $(patsubst %.c,$(BUILD)/%,$(sort $(wildcard tests/integration/test_*.c)))
SIM_PROGRAMS := $(patsubst %.c,$(BUILD)/%,$(sort $(wildcard tests/sim/*.c)))
TEST_PROGRAMS := $(UNIT_PROGRAMS) $(INTEGRATION_PROGRAMS) $(SIM_PROGRAMS)

$(TEST_PROGRAMS): %: %.o $(FAKE_OBJECTS) $(LIBRARY)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ $(LIBS) -lcmocka

# ---- fuzz targets: replay_<name> runs the corpus without an engine, fuzz_<name> is libFuzzer's ----
FUZZ_NAMES := $(patsubst fuzz/fuzz_%.c,%,$(sort $(wildcard fuzz/fuzz_*.c)))
REPLAY_PROGRAMS := $(FUZZ_NAMES:%=$(BUILD)/fuzz/replay_%)
FUZZ_PROGRAMS := $(FUZZ_NAMES:%=$(BUILD)/fuzz/fuzz_%)

$(REPLAY_PROGRAMS): $(BUILD)/fuzz/replay_%: $(BUILD)/fuzz/fuzz_%.o $(BUILD)/fuzz/replay.o $(LIBRARY)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ $(LIBS)

$(FUZZ_PROGRAMS): %: %.o $(LIBRARY)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -fsanitize=fuzzer -o $@ $^ $(LIBS)

# ---- benchmarks: one program per bench/*.c ----
BENCH_PROGRAMS := $(patsubst %.c,$(BUILD)/%,$(sort $(wildcard bench/*.c)))

$(BENCH_PROGRAMS): %: %.o $(LIBRARY)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ $(LIBS)

.PRECIOUS: $(BUILD)/%.o

.PHONY: unit-programs test-programs fuzz-programs bench-programs
unit-programs: $(UNIT_PROGRAMS)
test-programs: $(TEST_PROGRAMS) $(REPLAY_PROGRAMS) ## build what `make test` runs, in this CONFIG
fuzz-programs: $(FUZZ_PROGRAMS)
bench-programs: $(BENCH_PROGRAMS) ## build the benchmarks (CONFIG=release to measure)

# ---- what people call; each installs what it lacks ----
DEPENDENCIES := infra/scripts/dependencies.sh
TEST_CONFIGS ?= debug asan tsan
FUZZ_SECONDS ?= 60
PREFIX ?= /usr/local

.PHONY: run
run: ## start MariaDB and the server here: http://127.0.0.1:8080 (HTTP_PORT=...); Ctrl-C stops both
	@$(DEPENDENCIES) build run
	@$(MAKE) --no-print-directory CONFIG=release all
	@exec infra/scripts/run.sh

.PHONY: test
test: ## everything that is tested, in debug, asan and tsan builds (TEST_CONFIGS=...)
	@$(DEPENDENCIES) build test
	@infra/scripts/unpack.sh
	@MAKE="$(MAKE)" python3 tests/run.py $(TEST_CONFIGS)

.PHONY: check
check: ## format, include arrows, headers alone, gcc and clang, clang-tidy, cppcheck, shellcheck, OpenAPI
	@$(DEPENDENCIES) build check
	@MAKE="$(MAKE)" infra/scripts/check.sh

.PHONY: ci
ci: ## check, then the tests in release, asan and tsan builds
	@$(MAKE) --no-print-directory check
	@$(MAKE) --no-print-directory test TEST_CONFIGS="release asan tsan"

.PHONY: fuzz
fuzz: ## fuzz each input for FUZZ_SECONDS (60), from fuzz/corpus
	@$(DEPENDENCIES) build fuzz
	@$(MAKE) --no-print-directory CONFIG=fuzz CC=clang fuzz-programs
	@FUZZ_SECONDS=$(FUZZ_SECONDS) infra/scripts/fuzz.sh $(FUZZ_NAMES)

.PHONY: bench
bench: ## measure, beside nginx and Redis
	@$(DEPENDENCIES) build bench
	@MAKE="$(MAKE)" bench/run.sh

.PHONY: install
install: ## install the release build (PREFIX=/usr/local, DESTDIR=)
	@$(MAKE) --no-print-directory CONFIG=release all
	install -D -m 755 build/release/sluice $(DESTDIR)$(PREFIX)/bin/sluice

# What editors and clang-tidy read; written from the same variables the compiler gets.
comma := ,
COMPILED := $(sort $(wildcard $(addsuffix /*.c,$(FOLDERS) tests/unit tests/integration tests/fakes tests/sim \
  fuzz bench)))
define compile_command
{"directory": "$(CURDIR)", "file": "$1", "command": "$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) -c $1"}
endef
.PHONY: compile_commands.json
compile_commands.json: ## how each file is compiled, for editors
	$(file >$@,[$(foreach source,$(COMPILED),$(if $(filter-out \
	  $(firstword $(COMPILED)),$(source)),$(comma))$(call compile_command,$(source)))])
	@:

.PHONY: print-cppflags
print-cppflags:
	@echo '$(CPPFLAGS_ALL)'

.PHONY: clean
clean: ## remove what was built (not var/, the data of `make run`)
	rm -rf build compile_commands.json

.PHONY: dist-clean
dist-clean: clean ## remove also var/: the log and the database of `make run`
	rm -rf var

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z_.-]+:.*## / { printf "  make %-22s %s\n", $$1, $$2 }' Makefile

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
