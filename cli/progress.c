#include "cli/progress.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "core/base/clock.h"

enum {
    BAR_CELLS = 24,
    BAR_EVERY_US = 100000,
    LINE_EVERY_US = 5000000,
};

static void
wipe(struct progress *progress)
{
    if (progress->is_drawn) {
        fputs("\r\033[K", stderr);
        progress->is_drawn = false;
    }
}

void
progress_begin(struct progress *progress, const char *command, uint64_t bytes_done,
               uint64_t bytes_total)
{
    *progress = (struct progress){
        .command = command,
        .is_terminal = isatty(STDERR_FILENO) == 1,
        .bytes_total = bytes_total,
        .bytes_first = bytes_done,
        .began_us = clock_monotonic_us(clock_system()),
    };
    progress->shown_us = progress->began_us;
}

/* "45 % 1200 events 98765/s, 12 s left"; of the pace of this run. */
static void
describe(const struct progress *progress, uint64_t bytes_done, uint64_t events, int64_t now_us,
         char *out, size_t size)
{
    const double seconds = (double)(now_us - progress->began_us) / 1e6;
    const double rate = seconds > 0 ? (double)events / seconds : 0;
    const uint64_t moved = bytes_done - progress->bytes_first;
    int len = 0;

    if (progress->bytes_total > 0) {
        len = snprintf(out, size, "%.1f %% ",
                       100.0 * (double)bytes_done / (double)progress->bytes_total);
    }
    len += snprintf(out + len, size - (size_t)len, "%llu events, %.0f/s",
                    (unsigned long long)events, rate);
    if (progress->bytes_total > bytes_done && moved > 0) {
        snprintf(out + len, size - (size_t)len, ", %.0f s left",
                 seconds * (double)(progress->bytes_total - bytes_done) / (double)moved);
    }
}

static void
draw_bar(struct progress *progress, uint64_t bytes_done, const char *text)
{
    const int full =
        progress->bytes_total == 0
            ? 0
            : (int)((double)BAR_CELLS * (double)bytes_done / (double)progress->bytes_total);

    wipe(progress);
    fputc('[', stderr);
    for (int i = 0; i < BAR_CELLS; i++) {
        fputc(i < full ? '#' : '.', stderr);
    }
    fprintf(stderr, "] %s", text);
    fflush(stderr);
    progress->is_drawn = true;
}

void
progress_show(struct progress *progress, uint64_t bytes_done, uint64_t events)
{
    const int64_t now_us = clock_monotonic_us(clock_system());
    char text[160];

    if (now_us - progress->shown_us < (progress->is_terminal ? BAR_EVERY_US : LINE_EVERY_US)) {
        return;
    }
    progress->shown_us = now_us;
    describe(progress, bytes_done, events, now_us, text, sizeof(text));
    if (progress->is_terminal) {
        draw_bar(progress, bytes_done, text);
    } else {
        fprintf(stderr, "sluice %s: %s\n", progress->command, text);
    }
}

void
progress_end(struct progress *progress)
{
    wipe(progress);
}

void
progress_say(struct progress *progress, const char *format, ...)
{
    va_list args;

    wipe(progress);
    fprintf(stderr, "sluice %s: ", progress->command);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
}
