/*
 * slo_window.h - one minute of one service as a row: what table slo_windows holds and GET
 * /slo/windows answers with.
 *
 * A minute is a violation when any objective of its service is not met in it. Without traffic there
 * is no availability and no violation. Any thread.
 */
#ifndef SLUICE_CORE_SLO_WINDOW_H
#define SLUICE_CORE_SLO_WINDOW_H

#include "core/base/base.h"
#include "core/base/buffer.h"
#include "core/base/err.h"
#include "core/slo/slo.h"
#include "core/slo/slo_json.h"

enum {
    SLO_WINDOWS_MAX = 7 * 1440, /* minutes of one answer */
};

struct slo_window_row {
    int64_t minute;
    uint64_t good; /* status rule < 500 */
    uint64_t bad;
    double latency_ms[SLO_QUANTILES]; /* NAN without latencies */
    bool violated;
};

/* The row of MINUTE from its slice. */
struct slo_window_row slo_window_row(int64_t minute, const struct slice *slice,
                                     const struct slo_config *config);

typedef enum err slo_window_fn(void *arg, const struct slo_window_row *row);

/* The port to the stored rows. Any thread, one call at a time. */
struct slo_history {
    /*
     * Calls FN for each row of the minutes [FROM, TO), in order. ERR_UNAVAILABLE, ERR_NOT_FOUND (no
     * tables yet), or FN's error.
     */
    enum err (*read)(void *self, struct span tenant, struct span service, int64_t from_minute,
                     int64_t to_minute, slo_window_fn *fn, void *arg);
    void *self;
};

/*
 * Appends the document: each minute of [FROM, TO), which are at most SLO_WINDOWS_MAX, the silent
 * ones too. From HISTORY, or, when that is NULL or does not answer, from memory: *DEGRADED is then
 * what request->degraded says, or true. Out of memory sets OUT's failed flag.
 */
void slo_windows_json(const struct slo_status_request *request, const struct slo_history *history,
                      int64_t from_minute, int64_t to_minute, struct buffer *out);

#endif
