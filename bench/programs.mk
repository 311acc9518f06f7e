# The programs bench/run.sh calls, by the rules of the Makefile in the root:
#   make -f bench/programs.mk CONFIG=release bench-programs
# bench/<name>.c is one program each, linked with everything but main().
include Makefile

BENCH_PROGRAMS := $(patsubst %.c,$(BUILD)/%,$(sort $(wildcard bench/*.c)))

.PHONY: bench-programs
bench-programs: $(BENCH_PROGRAMS)

$(BENCH_PROGRAMS): %: %.o $(LIBRARY)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ $(LIBS)
