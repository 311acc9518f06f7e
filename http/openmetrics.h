/*
 * openmetrics.h - the exposition as OpenMetrics 1.0, for who asks for it. Pure, any thread.
 */
#ifndef SLUICE_HTTP_OPENMETRICS_H
#define SLUICE_HTTP_OPENMETRICS_H

#include "core/base/base.h"
#include "core/base/buffer.h"

#define OPENMETRICS_TYPE "application/openmetrics-text; version=1.0.0; charset=utf-8"

/* ACCEPT prefers application/openmetrics-text, or likes it as well as text/plain. */
bool openmetrics_wanted(struct span accept);

/*
 * Appends CLASSIC (text format 0.0.4, families whole, HELP before TYPE) as OpenMetrics 1.0:
 * counters' families without _total, units, bounds of buckets as floats, the end mark.
 */
void openmetrics_write(struct span classic, struct buffer *out);

#endif
