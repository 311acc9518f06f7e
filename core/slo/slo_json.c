/*
 * slo_json.c - collects a tenant's services, orders them, writes them.
 */
#include "core/slo/slo_json.h"

#include <math.h>
#include <stdlib.h>

#include "core/base/histogram.h"
#include "core/base/timestamp.h"
#include "core/slo/alerts_json.h"

#define MINUTE_US INT64_C(60000000)

struct named_service {
    char name[EVENT_NAME_MAX];
    uint8_t name_len;
    double remaining; /* the least of its objectives; NAN without data */
    struct slo_service figures;
};

struct collection {
    const struct slo_status_request *request;
    struct named_service **services; /* each in its own block: sorting moves pointers */
    size_t len;
    size_t capacity;
    enum err err;
};

static struct span
name_of(const struct named_service *service)
{
    return (struct span){service->name, service->name_len};
}

static enum err
make_room(struct collection *collection)
{
    size_t capacity = collection->capacity == 0 ? 16 : collection->capacity * 2;
    struct named_service **services;

    if (collection->len < collection->capacity) {
        return ERR_OK;
    }
    services = realloc(collection->services, capacity * sizeof(struct named_service *));
    if (services == NULL) {
        return ERR_NO_MEMORY;
    }
    collection->services = services;
    collection->capacity = capacity;
    return ERR_OK;
}

static double
least_remaining(const struct slo_service *figures)
{
    double least = NAN;

    for (uint32_t i = 0; i < figures->figure_count; i++) {
        double remaining = figures->figures[i].error_budget_remaining;
        if (isnan(least) || remaining < least) {
            least = remaining;
        }
    }
    return least;
}

/* Works out one service's figures; after the first error the rest is passed over. */
static void
collect(void *arg, struct span service)
{
    struct collection *collection = arg;
    const struct slo_status_request *request = collection->request;
    struct named_service *item;

    ASSERT(service.len <= EVENT_NAME_MAX);
    if (collection->err != ERR_OK) {
        return;
    }
    collection->err = make_room(collection);
    if (collection->err != ERR_OK) {
        return;
    }
    item = malloc(sizeof(*item));
    if (item == NULL) {
        collection->err = ERR_NO_MEMORY;
        return;
    }
    collection->err = slo_service_figures(
        request->slices,
        objective_set_config(request->objectives, request->config, request->tenant, service),
        request->tenant, service, request->now_us, &item->figures);
    if (collection->err != ERR_OK) {
        free(item);
        return;
    }
    memcpy(item->name, service.data, service.len);
    item->name_len = narrow_u8(service.len);
    item->remaining = least_remaining(&item->figures);
    collection->services[collection->len++] = item;
}

/* Passes on a service with definitions that has no events, and so is not collected otherwise. */
static void
collect_silent(void *arg, struct span service)
{
    const struct slo_status_request *request = ((struct collection *)arg)->request;

    if (!slices_has_series(request->slices, request->tenant, service)) {
        collect(arg, service);
    }
}

static void
collect_all(struct collection *collection)
{
    const struct slo_status_request *request = collection->request;

    if (request->service.data == NULL) {
        slices_each_service(request->slices, request->tenant, collect, collection);
        objective_set_each_service(request->objectives, request->tenant, collect_silent,
                                   collection);
    } else if (slices_has_series(request->slices, request->tenant, request->service) ||
               objective_set_config(request->objectives, NULL, request->tenant, request->service) !=
                   NULL) {
        collect(collection, request->service);
    }
}

static int
compare_names(struct span a, struct span b)
{
    int order = memcmp(a.data, b.data, a.len < b.len ? a.len : b.len);

    if (order != 0) {
        return order;
    }
    return a.len < b.len ? -1 : a.len > b.len;
}

/* Without data is after any remaining budget. */
static int
compare_remaining(double a, double b)
{
    if (isnan(a) || isnan(b)) {
        return (isnan(a) ? 1 : 0) - (isnan(b) ? 1 : 0);
    }
    return a < b ? -1 : a > b;
}

static int
compare_services(const void *left, const void *right)
{
    const struct named_service *a = *(struct named_service *const *)left;
    const struct named_service *b = *(struct named_service *const *)right;
    int order;

    if (a->figures.health != b->figures.health) {
        return a->figures.health > b->figures.health ? -1 : 1;
    }
    order = compare_remaining(a->remaining, b->remaining);
    return order != 0 ? order : compare_names(name_of(a), name_of(b));
}

/* ---- writing ---- */

/* ,"KEY":VALUE */
static void
write_number(struct buffer *out, const char *key, double value)
{
    buffer_append_text(out, ",\"");
    buffer_append_text(out, key);
    buffer_append_text(out, "\":");
    buffer_append_json_number(out, value);
}

static void
write_count(struct buffer *out, const char *key, uint64_t value)
{
    buffer_append_text(out, ",\"");
    buffer_append_text(out, key);
    buffer_append_text(out, "\":");
    buffer_append_u64(out, value);
}

/* Its name, and where it begins now. */
static void
write_window(struct buffer *out, const struct slo_figures *figures)
{
    char text[OBJECTIVE_WINDOW_SIZE];
    char from[TIMESTAMP_TEXT_SIZE];

    objective_window_text(figures->objective, text);
    (void)timestamp_format(figures->from_minute * MINUTE_US, from);
    buffer_printf(out, ",\"window\":\"%s\",\"window_start\":\"%s\"", text, from);
    if (figures->objective->window != SLO_ROLLING) {
        buffer_append_text(out, ",\"time_zone\":");
        buffer_append_json_string(out, span_of(figures->objective->zone));
    }
}

/* What the figures of a latency objective leave out, when it is younger than its window. */
static void
write_history(struct buffer *out, const struct slo_figures *figures)
{
    const int64_t from_us = figures->objective->counted_from_us;
    char from[TIMESTAMP_TEXT_SIZE];

    if (figures->uncounted == 0) {
        return;
    }
    write_count(out, "uncounted", figures->uncounted);
    if (from_us != 0) {
        (void)timestamp_format(from_us, from);
        buffer_printf(out, ",\"history_from\":\"%s\"", from);
    }
    buffer_printf(out,
                  ",\"note\":\"%llu events of the window were not compared with this threshold "
                  "when they came, and are left out\"",
                  (unsigned long long)figures->uncounted);
}

static void
write_objective(struct buffer *out, const struct slo_status_request *request, struct span service,
                const struct slo_figures *figures)
{
    const struct slo_objective *objective = figures->objective;

    buffer_append_text(out, "{\"id\":");
    buffer_append_json_string(out, span_of(objective->id));
    buffer_append_text(out, ",\"type\":\"");
    buffer_append_text(out, slo_type_name(objective->type));
    buffer_append_text(out, "\",\"health\":\"");
    buffer_append_text(out, slo_health_name(figures->health));
    buffer_append_char(out, '"');
    write_number(out, "target", objective->target);
    write_window(out, figures);
    if (objective->type == SLO_LATENCY) {
        write_number(out, "threshold_ms", objective->threshold_us / 1000.0);
        write_history(out, figures);
    } else if (objective->good_status.range_count > 0) {
        char rule[OBJECTIVE_STATUS_SIZE];

        objective_status_text(&objective->good_status, rule);
        buffer_printf(out, ",\"good_status\":\"%s\"", rule);
    }
    write_count(out, "good", figures->good);
    write_count(out, "bad", figures->bad);
    write_number(out, "attained", figures->attained);
    write_number(out, "error_budget_remaining", figures->error_budget_remaining);
    write_number(out, "events_left", figures->events_left);
    write_number(out, "minutes_left", figures->minutes_left);
    buffer_append_text(out, ",\"burn_rate\":{");
    for (uint32_t i = 0; i < SLO_BURN_WINDOWS; i++) {
        buffer_append_text(out, i == 0 ? "\"" : ",\"");
        buffer_append_text(out, SLO_BURN_WINDOW_NAME[i]);
        buffer_append_text(out, "\":");
        buffer_append_json_number(out, figures->burn_rate[i]);
    }
    buffer_append_char(out, '}');
    write_number(out, "time_to_exhaustion_s", figures->time_to_exhaustion_s);
    buffer_append_text(out, ",\"alerts\":");
    alerts_json_brief(request->alerts, request->tenant, service, objective->id, out);
    write_count(out, "violations", figures->violations);
    buffer_append_char(out, '}');
}

static void
write_service(struct buffer *out, const struct slo_status_request *request,
              const struct named_service *service)
{
    const struct slo_service *figures = &service->figures;

    buffer_append_text(out, "{\"service\":");
    buffer_append_json_string(out, name_of(service));
    buffer_append_text(out, ",\"health\":\"");
    buffer_append_text(out, slo_health_name(figures->health));
    buffer_append_char(out, '"');
    write_count(out, "good", figures->good);
    write_count(out, "bad", figures->bad);
    write_count(out, "total", figures->good + figures->bad);
    write_number(out, "availability", figures->availability);
    write_number(out, "error_rate", figures->error_rate);
    buffer_append_text(out, ",\"latency_ms\":{");
    for (uint32_t i = 0; i < SLO_QUANTILES; i++) {
        buffer_append_text(out, i == 0 ? "\"" : ",\"");
        buffer_append_text(out, SLO_QUANTILE_NAME[i]);
        buffer_append_text(out, "\":");
        buffer_append_json_number(out, figures->latency_ms[i]);
    }
    write_number(out, "max_relative_error", HISTOGRAM_MAX_RELATIVE_ERROR);
    buffer_append_text(out, "},\"objectives\":[");
    for (uint32_t i = 0; i < figures->figure_count; i++) {
        if (i > 0) {
            buffer_append_char(out, ',');
        }
        write_objective(out, request, name_of(service), &figures->figures[i]);
    }
    buffer_append_text(out, "]}");
}

static void
write_status(struct buffer *out, const struct collection *collection)
{
    const struct slo_status_request *request = collection->request;
    enum slo_health health =
        collection->len == 0 ? SLO_NO_DATA : collection->services[0]->figures.health;
    char as_of[TIMESTAMP_TEXT_SIZE];
    size_t as_of_len = timestamp_format(request->now_us, as_of);

    buffer_append_text(out, "{\"as_of\":\"");
    buffer_append(out, as_of, as_of_len);
    buffer_append_text(out, "\",\"degraded\":");
    buffer_append_text(out, request->degraded ? "true" : "false");
    write_count(out, "pending_events", request->pending_events);
    buffer_append_text(out, ",\"health\":\"");
    buffer_append_text(out, slo_health_name(health));
    buffer_append_text(out, "\",\"services\":[");
    for (size_t i = 0; i < collection->len; i++) {
        if (i > 0) {
            buffer_append_char(out, ',');
        }
        write_service(out, request, collection->services[i]);
    }
    buffer_append_text(out, "]}");
}

void
slo_status_json(const struct slo_status_request *request, struct buffer *out)
{
    struct collection collection = {.request = request, .err = ERR_OK};

    collect_all(&collection);
    if (collection.err != ERR_OK) {
        out->failed = true;
    } else {
        if (collection.len > 0) {
            qsort(collection.services, collection.len, sizeof(struct named_service *),
                  compare_services);
        }
        write_status(out, &collection);
    }
    for (size_t i = 0; i < collection.len; i++) {
        free(collection.services[i]);
    }
    free(collection.services);
}
