/*
 * Who may ask, and how much: API keys against a route's needs, and the two rate limits.
 *
 * The key is looked at when the head is complete, before the body is read; tokens are taken when
 * the body is there, before anything in it is looked at. Without keys and limits neither costs more
 * than a comparison.
 */
#include <stdio.h>

#include "core/base/json.h"
#include "http/internal.h"

static struct span
given_key(const struct exchange *exchange)
{
    return request_field(&exchange->request, FIELD_API_KEY);
}

static enum problem
check_tenant(struct exchange *exchange, struct tenants *tenants)
{
    if (!tenants_have_keys(tenants)) {
        exchange->tenant = tenants_default(tenants);
        return PROBLEM_NONE;
    }
    switch (tenants_find(tenants, exchange->loop->index, given_key(exchange), &exchange->tenant)) {
    case KEY_OF_TENANT:
        return PROBLEM_NONE;
    case KEY_OF_ADMIN: /* stands for no tenant, so it has no events of its own */
        return PROBLEM_FORBIDDEN;
    case KEY_OF_NOBODY:
        break;
    }
    return PROBLEM_UNAUTHORIZED;
}

static enum problem
check_admin(struct exchange *exchange, struct tenants *tenants)
{
    struct tenant *tenant;

    if (!tenants_have_keys(tenants) && !tenants_have_admin(tenants)) {
        return PROBLEM_NONE;
    }
    switch (tenants_find(tenants, exchange->loop->index, given_key(exchange), &tenant)) {
    case KEY_OF_ADMIN:
        exchange->by_admin = true;
        return PROBLEM_NONE;
    case KEY_OF_TENANT:
        return PROBLEM_FORBIDDEN;
    case KEY_OF_NOBODY:
        break;
    }
    return PROBLEM_UNAUTHORIZED;
}

/* As check_tenant(), but the admin may look too. */
static enum problem
check_reader(struct exchange *exchange, struct tenants *tenants)
{
    struct tenant *tenant;

    if (tenants_have_admin(tenants) && tenants_find(tenants, exchange->loop->index,
                                                    given_key(exchange), &tenant) == KEY_OF_ADMIN) {
        exchange->by_admin = true;
        return PROBLEM_NONE;
    }
    return check_tenant(exchange, tenants);
}

enum problem
access_check(struct exchange *exchange, enum route_auth auth)
{
    struct tenants *tenants = exchange->loop->server->deps.tenants;

    if (tenants == NULL) {
        return PROBLEM_NONE;
    }
    switch (auth) {
    case AUTH_NONE:
        return PROBLEM_NONE;
    case AUTH_TENANT:
        return check_tenant(exchange, tenants);
    case AUTH_ADMIN:
        return check_admin(exchange, tenants);
    case AUTH_READER:
        return check_reader(exchange, tenants);
    }
    assert_failed(__FILE__, __LINE__, "a need of the list");
}

struct span
request_tenant(const struct exchange *exchange)
{
    return exchange->tenant != NULL ? exchange->tenant->name : SPAN_LITERAL("default");
}

bool
access_is_open(const struct exchange *exchange)
{
    const struct tenants *tenants = exchange->loop->server->deps.tenants;

    return tenants == NULL || (!tenants_have_keys(tenants) && !tenants_have_admin(tenants));
}

enum problem
access_subject(const struct exchange *exchange, struct buffer *out, struct span *tenant)
{
    const size_t at = out->len;
    const enum err err = request_query(&exchange->request, "tenant", out);

    switch (err) {
    case ERR_NOT_FOUND:
        *tenant = exchange->by_admin ? (struct span){NULL, 0} : request_tenant(exchange);
        return PROBLEM_NONE;
    case ERR_NO_MEMORY:
        return PROBLEM_BACKPRESSURE;
    case ERR_OK:
        break;
    default:
        return PROBLEM_VALIDATION;
    }
    *tenant = (struct span){out->data + at, out->len - at};
    if (tenant->len == 0 || tenant->len > EVENT_NAME_MAX || !json_is_utf8(*tenant)) {
        return PROBLEM_VALIDATION;
    }
    if (exchange->by_admin || access_is_open(exchange) ||
        span_equal(*tenant, request_tenant(exchange))) {
        return PROBLEM_NONE;
    }
    return PROBLEM_FORBIDDEN;
}

void
access_refuse_subject(struct outcome_page *outcome, enum problem why)
{
    const char *message = NULL;

    if (why == PROBLEM_FORBIDDEN) {
        message = "this API key may not see that tenant";
    } else if (why == PROBLEM_VALIDATION) {
        message = "tenant is not a valid query value";
    }
    outcome_refuse(outcome, why, message);
}

/* ---- rates ---- */

static struct token_bucket *
bucket_of(const struct exchange *exchange, enum rate_limit limit)
{
    struct token_bucket *bucket = NULL;

    switch (limit) {
    case RATE_TENANT:
        bucket = exchange->tenant != NULL ? &exchange->tenant->bucket : NULL;
        break;
    case RATE_ALL:
        bucket = &exchange->loop->server->rate;
        break;
    case RATE_LIMITS:
        break;
    }
    return bucket != NULL && token_bucket_is_on(bucket) ? bucket : NULL;
}

enum problem
access_take(struct exchange *exchange, uint64_t events)
{
    const int64_t now_us = exchange->loop->now_us;
    enum problem why = PROBLEM_NONE;

    for (uint32_t limit = 0; limit < RATE_LIMITS && why == PROBLEM_NONE; limit++) {
        struct token_bucket *bucket = bucket_of(exchange, (enum rate_limit)limit);

        if (bucket == NULL) {
            continue;
        }
        exchange->rated |= 1U << limit;
        switch (token_bucket_take(bucket, events, now_us, &exchange->level[limit],
                                  &exchange->retry_after_s)) {
        case TOKENS_TAKEN:
            continue;
        case TOKENS_LATER:
            why = PROBLEM_RATE_LIMITED;
            break;
        case TOKENS_NEVER:
            why = PROBLEM_OVER_BURST;
            break;
        }
        if (limit == RATE_ALL && (exchange->rated & 1U << RATE_TENANT) != 0) {
            token_bucket_give(&exchange->tenant->bucket, events, now_us,
                              &exchange->level[RATE_TENANT]);
        }
    }
    return why;
}

void
access_write_fields(const struct exchange *exchange, struct buffer *out)
{
    static const char *const NAMES[RATE_LIMITS] = {
        [RATE_TENANT] = "tenant", [RATE_ALL] = "default"};
    const char *mark = "RateLimit-Policy: ";

    for (uint32_t limit = 0; limit < RATE_LIMITS; limit++) {
        const struct token_bucket *bucket = bucket_of(exchange, (enum rate_limit)limit);

        if ((exchange->rated & 1U << limit) != 0) {
            buffer_printf(out, "%s\"%s\";q=%llu;w=%llu", mark, NAMES[limit],
                          (unsigned long long)bucket->burst,
                          (unsigned long long)token_bucket_window_s(bucket));
            mark = ", ";
        }
    }
    mark = "\r\nRateLimit: ";
    for (uint32_t limit = 0; limit < RATE_LIMITS; limit++) {
        const struct token_level *level = &exchange->level[limit];

        if ((exchange->rated & 1U << limit) != 0) {
            buffer_printf(out, "%s\"%s\";r=%llu;t=%llu", mark, NAMES[limit],
                          (unsigned long long)level->left, (unsigned long long)level->reset_s);
            mark = ", ";
        }
    }
    buffer_append_text(out, "\r\n");
}
