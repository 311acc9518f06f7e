/*
 * progress.h - how far a long command is, on stderr: a bar on a terminal, else a line now and then.
 *
 * Every other line that goes to stderr meanwhile is printed through it, so that the bar is not
 * torn. One thread.
 */
#ifndef SLUICE_CLI_PROGRESS_H
#define SLUICE_CLI_PROGRESS_H

#include "core/base/base.h"

struct progress {
    const char *command; /* begins each line */
    bool is_terminal;
    bool is_drawn;        /* the bar stands on the line */
    uint64_t bytes_total; /* 0: not known */
    uint64_t bytes_first; /* done before this run */
    int64_t began_us;
    int64_t shown_us;
};

void progress_begin(struct progress *progress, const char *command, uint64_t bytes_done,
                    uint64_t bytes_total);

/* Shows the state if it is time to. EVENTS: done in this run. */
void progress_show(struct progress *progress, uint64_t bytes_done, uint64_t events);

/* Takes the bar away. */
void progress_end(struct progress *progress);

void progress_say(struct progress *progress, const char *format, ...) PRINTF_LIKE(2, 3);

#endif
