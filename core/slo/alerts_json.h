/*
 * alerts_json.h - alerts as JSON: the document GET /slo/alerts answers with, and their short form
 * in GET /slo/status.
 *
 * Order: firing pages, firing tickets, resolved, without data, ok; among equals the latest change
 * first, then by name. NAN becomes null. Any thread.
 */
#ifndef SLUICE_CORE_ALERTS_JSON_H
#define SLUICE_CORE_ALERTS_JSON_H

#include "core/base/base.h"
#include "core/base/buffer.h"
#include "core/slo/alerts.h"

/* Appends the document to OUT, whose failed flag is set without memory. */
void alerts_json(struct alerts *alerts, const struct alerts_filter *filter, int64_t now_us,
                 struct buffer *out);

/* Appends an array of an objective's alerts that fire or have just resolved; [] without ALERTS. */
void alerts_json_brief(struct alerts *alerts, struct span tenant, struct span service,
                       const char *objective, struct buffer *out);

#endif
