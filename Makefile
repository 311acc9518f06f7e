# Sluice. `make help` lists the targets. CONFIG=debug|release|asan|tsan, CC=gcc|clang, V=1, WERROR=0.

CONFIG ?= debug
ifeq ($(origin CC),default)
CC := gcc
endif
BUILD := build/$(CONFIG)
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
ifndef OPTIMISE_$(CONFIG)
$(error CONFIG must be debug, release, asan or tsan, not '$(CONFIG)')
endif

LLHTTP_DIR := /usr/share/llhttp
CPPFLAGS_ALL := -I. -D_GNU_SOURCE -DLLHTTP_STRICT_MODE=1 -isystem /usr/share/include/llhttp \
  -isystem /usr/include/mysql $(CPPFLAGS)
CFLAGS_ALL := -std=c17 -pthread -msse4.2 $(OPTIMISE_$(CONFIG)) $(WARNINGS) $(CFLAGS)
LDFLAGS_ALL := -pthread $(OPTIMISE_$(CONFIG)) $(LDFLAGS)
LIBS := -llmdb -luv -lcjson -lmysqlclient -lcrypto -lm

FOLDERS := core wal storage http cli
SOURCES := $(sort $(wildcard $(FOLDERS:%=%/*.c)))
OBJECTS := $(SOURCES:%.c=$(BUILD)/%.o)
LLHTTP_OBJECTS := $(addprefix $(BUILD)/llhttp/,api.o http.o llhttp.o)
# Everything but main(): what tests, fuzz targets and benchmarks link with.
LIBRARY := $(BUILD)/libsluice.a

Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %-6s %s\n' '$(1)' '$(2)')

.DEFAULT_GOAL := all
.PHONY: all
all: $(BUILD)/sluice ## build the server (CONFIG=debug: also linked as build/sluice)
	$(Q)ln -sfn $(CONFIG)/sluice build/sluice

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

# Debian's generated parser: strict mode, and apart from our warnings.
$(BUILD)/llhttp/%.o: $(LLHTTP_DIR)/%.c Makefile
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) -isystem /usr/share/include/llhttp -DLLHTTP_STRICT_MODE=1 -std=c17 -w \
	  $(OPTIMISE_$(CONFIG)) $(CFLAGS) -c -o $@ $<

# ---- unit tests: one program per tests/unit/test_*.c, fakes linked into each ----
UNIT_SOURCES := $(sort $(wildcard tests/unit/test_*.c))
UNIT_PROGRAMS := $(UNIT_SOURCES:%.c=$(BUILD)/%)
FAKE_OBJECTS := $(patsubst %.c,$(BUILD)/%.o,$(sort $(wildcard tests/fakes/*.c)))

$(BUILD)/tests/unit/test_%: $(BUILD)/tests/unit/test_%.o $(FAKE_OBJECTS) $(LIBRARY)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ $(LIBS) -lcmocka

.PRECIOUS: $(BUILD)/%.o

.PHONY: unit-programs
unit-programs: $(UNIT_PROGRAMS)

.PHONY: clean
clean: ## remove what was built (not var/, the data)
	rm -rf build

-include $(OBJECTS:.o=.d) $(UNIT_PROGRAMS:=.d) $(FAKE_OBJECTS:.o=.d)
