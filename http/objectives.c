/*
 * The definitions of objectives: /slo/objectives and /slo/objectives/{id}.
 *
 * Reading answers from what is in force. Writing waits for the database on a line of its own, and
 * is refused at once while the database is known to be away.
 */
#include "core/slo/objectives.h"

#include <stdio.h>

#include "core/base/json.h"
#include "core/base/timestamp.h"
#include "core/base/uuid.h"
#include "http/internal.h"

static struct objectives *
objectives_of(const struct exchange *exchange)
{
    return exchange->loop->server->deps.objectives;
}

/* ---- reading ---- */

/* The tenant whose definitions may be seen; absent for all. False: the outcome is a refusal. */
static bool
find_subject(const struct exchange *exchange, struct buffer *text, struct span *tenant,
             struct outcome_page *outcome)
{
    enum problem why = access_subject(exchange, text, tenant);

    if (why != PROBLEM_NONE) {
        access_refuse_subject(outcome, why);
        return false;
    }
    return true;
}

static bool
is_wanted(const struct objective *objective, struct span tenant, struct span service)
{
    return (tenant.data == NULL || span_is(tenant, objective->tenant)) &&
           (service.len == 0 || span_is(service, objective->service));
}

static void
write_list(const struct exchange *exchange, struct span tenant, struct span service,
           struct buffer *out)
{
    const struct server *server = exchange->loop->server;
    const struct objective_set *set = objectives_now(server->deps.objectives);
    const char *mark = "";
    char as_of[TIMESTAMP_TEXT_SIZE];

    (void)timestamp_format(clock_wall_us(server->deps.clock), as_of);
    buffer_printf(out, "{\"as_of\":\"%s\",\"degraded\":%s,\"objectives\":[", as_of,
                  objectives_stale(server->deps.objectives) ? "true" : "false");
    for (size_t i = 0; i < objective_set_count(set); i++) {
        const struct objective *objective = objective_set_at(set, i);

        if (is_wanted(objective, tenant, service)) {
            buffer_append_text(out, mark);
            objective_write(out, objective);
            mark = ",";
        }
    }
    buffer_append_text(out, "]}\n");
    objective_set_release(set);
}

static void
work_list(struct exchange *exchange, struct outcome_page *outcome)
{
    struct buffer tenant_text = BUFFER_EMPTY;
    struct buffer service = BUFFER_EMPTY;
    struct span tenant;

    if (find_subject(exchange, &tenant_text, &tenant, outcome)) {
        const enum err err = request_query(&exchange->request, "service", &service);

        if (err == ERR_INVALID || service.len > EVENT_NAME_MAX ||
            !json_is_utf8(buffer_span(&service))) {
            outcome_refuse(outcome, PROBLEM_VALIDATION, "service is not a valid query value");
        } else if (err == ERR_NO_MEMORY) {
            outcome_refuse(outcome, PROBLEM_BACKPRESSURE, NULL);
        } else {
            write_list(exchange, tenant, buffer_span(&service), &outcome->body);
        }
    }
    buffer_free(&tenant_text);
    buffer_free(&service);
}

static struct span
path_id(const struct exchange *exchange)
{
    return route_parameter(exchange->route, request_path(&exchange->request));
}

static void
work_get(struct exchange *exchange, struct outcome_page *outcome)
{
    struct buffer tenant_text = BUFFER_EMPTY;
    const struct objective_set *set = objectives_now(objectives_of(exchange));
    const struct objective *objective = objective_set_find(set, path_id(exchange));
    struct span tenant;

    if (find_subject(exchange, &tenant_text, &tenant, outcome)) {
        if (objective == NULL || !is_wanted(objective, tenant, (struct span){NULL, 0})) {
            outcome_refuse(outcome, PROBLEM_NOT_FOUND, "there is no such objective");
        } else {
            objective_write(&outcome->body, objective);
            buffer_append_char(&outcome->body, '\n');
        }
    }
    objective_set_release(set);
    buffer_free(&tenant_text);
}

void
handle_objectives_list(struct exchange *exchange)
{
    page_work(exchange, LINE_READ, work_list, "application/json");
}

void
handle_objective_get(struct exchange *exchange)
{
    page_work(exchange, LINE_READ, work_get, "application/json");
}

/* ---- writing ---- */

/* What a change that did not happen means to the client. */
static void
refuse_change(struct outcome_page *outcome, enum err err, bool conflict, const char *problem)
{
    switch (err) {
    case ERR_INVALID:
        outcome_refuse(outcome, conflict ? PROBLEM_CONFLICT : PROBLEM_VALIDATION, problem);
        return;
    case ERR_NOT_FOUND:
        outcome_refuse(outcome, PROBLEM_NOT_FOUND, "there is no such objective");
        return;
    case ERR_UNKNOWN:
        outcome_refuse(outcome, PROBLEM_OUTCOME_UNKNOWN,
                       "the change may or may not have been stored; ask for the objective");
        return;
    case ERR_NO_MEMORY:
        outcome_refuse(outcome, PROBLEM_BACKPRESSURE, NULL);
        return;
    case ERR_IO:
        outcome_refuse(outcome, PROBLEM_DATABASE,
                       "the definitions' file cannot be written; nothing was changed");
        return;
    default:
        outcome_refuse(outcome, PROBLEM_DATABASE, NULL);
    }
}

static void
sign(const struct exchange *exchange, struct objective *objective)
{
    (void)snprintf(objective->updated_by, sizeof(objective->updated_by), "%s, request %.*s",
                   exchange->by_admin ? "admin" : "anyone", exchange->request_id_len,
                   exchange->request_id);
}

/* The body's definition, with ID from the path when there is one. False: a refusal. */
static bool
read_body(const struct exchange *exchange, struct span id, struct objective *out,
          struct outcome_page *outcome)
{
    char problem[OBJECTIVE_PROBLEM_SIZE] = "";
    enum err err = objective_read(buffer_span(&exchange->scratch), out, problem);

    if (err != ERR_OK) {
        const bool json = strncmp(problem, "the body is not valid JSON", 26) == 0;

        outcome_refuse(outcome,
                       err == ERR_NO_MEMORY ? PROBLEM_BACKPRESSURE
                       : json               ? PROBLEM_INVALID_JSON
                                            : PROBLEM_VALIDATION,
                       problem);
        return false;
    }
    if (id.data != NULL) {
        if (!objective_id_is_valid(id) || (out->slo.id[0] != '\0' && !span_is(id, out->slo.id))) {
            outcome_refuse(outcome, PROBLEM_VALIDATION,
                           objective_id_is_valid(id)
                               ? "id must be that of the path, or be left out"
                               : "the path's id must be 1 to 63 of A-Z, a-z, 0-9, '.', '_', '-', "
                                 "and not begin with default-");
            return false;
        }
        memcpy(out->slo.id, id.data, id.len);
        out->slo.id[id.len] = '\0';
    }
    sign(exchange, out);
    return true;
}

/* Without keys there is one tenant; with keys the admin has to say whose objective it is. */
static bool
settle_tenant(const struct exchange *exchange, struct objective *objective,
              struct outcome_page *outcome)
{
    const struct tenants *tenants = exchange->loop->server->deps.tenants;

    if (objective->tenant[0] != '\0') {
        return true;
    }
    if (tenants != NULL && tenants_have_keys(tenants)) {
        outcome_refuse(outcome, PROBLEM_VALIDATION,
                       "tenant is required: the admin key stands for no tenant");
        return false;
    }
    (void)snprintf(objective->tenant, sizeof(objective->tenant), "default");
    return true;
}

static void
answer_created(const struct objective *objective, struct outcome_page *outcome)
{
    outcome->status = 201;
    (void)snprintf(outcome->headers, sizeof(outcome->headers), "Location: /slo/objectives/%s\r\n",
                   objective->slo.id);
    objective_write(&outcome->body, objective);
    buffer_append_char(&outcome->body, '\n');
}

static void
create(struct exchange *exchange, struct objective *objective, struct outcome_page *outcome)
{
    char problem[OBJECTIVE_PROBLEM_SIZE] = "";
    bool conflict;
    enum err err;

    if (!settle_tenant(exchange, objective, outcome)) {
        return;
    }
    if (objective->slo.id[0] == '\0') {
        uuid_v7_text(clock_wall_us(exchange->loop->server->deps.clock) / 1000, objective->slo.id);
    }
    err = objectives_change(objectives_of(exchange), OBJECTIVE_CREATE, objective, objective,
                            &conflict, problem);
    if (err != ERR_OK) {
        refuse_change(outcome, err, conflict, problem);
        return;
    }
    answer_created(objective, outcome);
}

static void
work_create(struct exchange *exchange, struct outcome_page *outcome)
{
    struct objective objective;

    if (read_body(exchange, (struct span){NULL, 0}, &objective, outcome)) {
        create(exchange, &objective, outcome);
    }
}

/* Replaces the definition, or makes it when there is none of that id. */
static void
work_put(struct exchange *exchange, struct outcome_page *outcome)
{
    char problem[OBJECTIVE_PROBLEM_SIZE] = "";
    struct objective objective;
    bool conflict;
    enum err err;

    if (!read_body(exchange, path_id(exchange), &objective, outcome)) {
        return;
    }
    err = objectives_change(objectives_of(exchange), OBJECTIVE_UPDATE, &objective, &objective,
                            &conflict, problem);
    if (err == ERR_NOT_FOUND) { /* or it is another tenant's: then the id is taken */
        create(exchange, &objective, outcome);
    } else if (err != ERR_OK) {
        refuse_change(outcome, err, conflict, problem);
    } else {
        objective_write(&outcome->body, &objective);
        buffer_append_char(&outcome->body, '\n');
    }
}

static void
work_delete(struct exchange *exchange, struct outcome_page *outcome)
{
    char problem[OBJECTIVE_PROBLEM_SIZE] = "";
    struct buffer tenant_text = BUFFER_EMPTY;
    const struct span id = path_id(exchange);
    struct objective objective = {0};
    struct span tenant;
    bool conflict;
    enum err err = ERR_NOT_FOUND;

    if (!find_subject(exchange, &tenant_text, &tenant, outcome)) {
        buffer_free(&tenant_text);
        return;
    }
    if (objective_id_is_valid(id)) {
        memcpy(objective.slo.id, id.data, id.len);
        if (tenant.len > 0) { /* the admin's key alone: whose ever it is */
            memcpy(objective.tenant, tenant.data, tenant.len);
        }
        sign(exchange, &objective);
        err = objectives_change(objectives_of(exchange), OBJECTIVE_DELETE, &objective, &objective,
                                &conflict, problem);
    }
    buffer_free(&tenant_text);
    if (err != ERR_OK) {
        refuse_change(outcome, err, false, problem);
        return;
    }
    outcome->status = 204;
}

/* Keeps the body, which is in the connection's bytes, and sets WORK on it. */
static void
begin_change(struct exchange *exchange,
             void (*work)(struct exchange *exchange, struct outcome_page *outcome))
{
    const char *complaint = upload_complaint(exchange);

    exchange_identify(exchange); /* while the header is at hand */
    if (complaint != NULL) {
        exchange_problem(exchange, PROBLEM_VALIDATION, complaint);
        return;
    }
    if (objectives_of(exchange) == NULL || server_degraded(exchange->loop->server)) {
        exchange_problem(exchange, PROBLEM_DATABASE, NULL);
        return;
    }
    buffer_append_span(&exchange->scratch, request_body(&exchange->request));
    if (exchange->scratch.failed) {
        exchange_problem(exchange, PROBLEM_BACKPRESSURE, NULL);
        return;
    }
    page_work(exchange, LINE_WRITE, work, "application/json");
}

void
handle_objective_create(struct exchange *exchange)
{
    begin_change(exchange, work_create);
}

void
handle_objective_put(struct exchange *exchange)
{
    begin_change(exchange, work_put);
}

void
handle_objective_delete(struct exchange *exchange)
{
    begin_change(exchange, work_delete);
}
