/*
 * Completes the description from the tables and writes it twice.
 */
#include "http/openapi.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <strings.h>

#include "http/embed.h"
#include "http/problem.h"
#include "http/route.h"

EMBED(openapi_source, "http/openapi.json");

/* The document on its way; FAILED: memory ran out, or the source lacks what it must have. */
struct draft {
    cJSON *root;
    bool failed;
};

/* Which refusals a route can give beside those its description names. */
enum scope {
    SCOPE_ALL,
    SCOPE_STORE,  /* routes that store events */
    SCOPE_EVENT,  /* those of them that take one */
    SCOPE_BODY,   /* routes that take a body of whatever kind */
    SCOPE_JSON,   /* those of them whose document is no event */
    SCOPE_ITEM,   /* routes about one thing with a name in the path, which must be there */
    SCOPE_KEY,    /* routes that may want a key */
    SCOPE_LETTER, /* routes that change a dead letter */
    SCOPE_REPLAY, /* the one of them that replays it */
};

static const struct {
    enum problem problem;
    enum scope scope;
} REFUSALS[] = {
    {PROBLEM_MALFORMED, SCOPE_ALL},        {PROBLEM_VALIDATION, SCOPE_ALL},
    {PROBLEM_INVALID_JSON, SCOPE_BODY},    {PROBLEM_UNAUTHORIZED, SCOPE_KEY},
    {PROBLEM_FORBIDDEN, SCOPE_KEY},        {PROBLEM_METHOD, SCOPE_ALL},
    {PROBLEM_TIMEOUT, SCOPE_ALL},          {PROBLEM_LENGTH_REQUIRED, SCOPE_BODY},
    {PROBLEM_BODY_TOO_LARGE, SCOPE_ALL},   {PROBLEM_OVER_BURST, SCOPE_STORE},
    {PROBLEM_URI_TOO_LONG, SCOPE_ALL},     {PROBLEM_MEDIA_TYPE, SCOPE_BODY},
    {PROBLEM_CODING, SCOPE_BODY},          {PROBLEM_MISMATCH, SCOPE_EVENT},
    {PROBLEM_RATE_LIMITED, SCOPE_STORE},   {PROBLEM_HEADERS_TOO_LARGE, SCOPE_ALL},
    {PROBLEM_OUTCOME_UNKNOWN, SCOPE_BODY}, {PROBLEM_BACKPRESSURE, SCOPE_ALL},
    {PROBLEM_LOG_FULL, SCOPE_STORE},       {PROBLEM_SHUTTING_DOWN, SCOPE_STORE},
    {PROBLEM_LOG_FAILED, SCOPE_STORE},     {PROBLEM_DATABASE, SCOPE_JSON},
    {PROBLEM_CONFLICT, SCOPE_JSON},        {PROBLEM_NOT_FOUND, SCOPE_ITEM},
    {PROBLEM_CONFLICT, SCOPE_LETTER},      {PROBLEM_OUTCOME_UNKNOWN, SCOPE_LETTER},
    {PROBLEM_DATABASE, SCOPE_LETTER},      {PROBLEM_LETTER_REFUSED, SCOPE_REPLAY},
};

static bool
is_of_letter(const struct route *route)
{
    return strncmp(route->path, "/dead-letters/", sizeof("/dead-letters/") - 1) == 0;
}

static bool
in_scope(enum scope scope, const struct route *route)
{
    switch (scope) {
    case SCOPE_ALL:
        return true;
    case SCOPE_STORE:
        return route_takes_events(route);
    case SCOPE_BODY:
        return route->body != BODY_NONE;
    case SCOPE_EVENT:
        return route->body == BODY_EVENT;
    case SCOPE_JSON:
        return route->body == BODY_JSON;
    case SCOPE_ITEM:
        return strchr(route->path, '{') != NULL && route->method != METHOD_PUT;
    case SCOPE_KEY:
        return route->auth != AUTH_NONE;
    case SCOPE_LETTER:
        return is_of_letter(route);
    case SCOPE_REPLAY:
        return is_of_letter(route) && route->method == METHOD_POST;
    }
    assert_failed(__FILE__, __LINE__, "a scope of the list");
}

/* ---- building ---- */

/* Moves ITEM into PARENT; returns it, or NULL when either is missing. */
static cJSON *
put(struct draft *draft, cJSON *parent, const char *key, cJSON *item)
{
    if (parent == NULL || item == NULL || !cJSON_AddItemToObject(parent, key, item)) {
        cJSON_Delete(item);
        draft->failed = true;
        return NULL;
    }
    return item;
}

/* Moves ITEM to the end of ARRAY. */
static void
append(struct draft *draft, cJSON *array, cJSON *item)
{
    if (array == NULL || item == NULL || !cJSON_AddItemToArray(array, item)) {
        cJSON_Delete(item);
        draft->failed = true;
    }
}

/* PARENT's object KEY, made when it is not there. */
static cJSON *
object_in(struct draft *draft, cJSON *parent, const char *key)
{
    cJSON *found = cJSON_GetObjectItemCaseSensitive(parent, key);

    return found != NULL ? found : put(draft, parent, key, cJSON_CreateObject());
}

static cJSON *
component(struct draft *draft, const char *kind)
{
    return object_in(draft, object_in(draft, draft->root, "components"), kind);
}

/* {"$ref": "#/components/KIND/NAME"} */
static cJSON *
reference(struct draft *draft, const char *kind, const char *name)
{
    cJSON *object = cJSON_CreateObject();
    char target[96];

    (void)snprintf(target, sizeof(target), "#/components/%s/%s", kind, name);
    (void)put(draft, object, "$ref", cJSON_CreateString(target));
    return object;
}

static bool
has(const cJSON *object, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(object, key) != NULL;
}

/* ---- refusals ---- */

/* NULL without memory. */
static cJSON *
problem_value(enum problem problem)
{
    struct buffer text = BUFFER_EMPTY;
    cJSON *value = NULL;

    problem_json(&text, problem, NULL, SPAN_LITERAL("req-7f3a"), (struct span){NULL, 0});
    if (!text.failed) {
        value = cJSON_ParseWithLength(text.data, text.len);
    }
    buffer_free(&text);
    return value;
}

static void
add_example(struct draft *draft, cJSON *examples, enum problem problem)
{
    const char *code = problem_code(problem);
    cJSON *example;

    if (has(examples, code)) { /* two problems may share a code */
        return;
    }
    example = put(draft, examples, code, cJSON_CreateObject());
    (void)put(draft, example, "summary", cJSON_CreateString(problem_title(problem)));
    (void)put(draft, example, "value", problem_value(problem));
}

/* components/responses/NAME, made when it is not there, with PROBLEM among its examples. */
static void
add_refusal(struct draft *draft, const char *name, const char *description, enum problem problem)
{
    cJSON *responses = component(draft, "responses");
    bool fresh = !has(responses, name);
    cJSON *response = object_in(draft, responses, name);
    cJSON *content;

    if (fresh) {
        (void)put(draft, response, "description", cJSON_CreateString(description));
    }
    content = object_in(draft, object_in(draft, response, "content"), "application/problem+json");
    if (fresh) {
        (void)put(draft, content, "schema", reference(draft, "schemas", "Problem"));
    }
    add_example(draft, object_in(draft, content, "examples"), problem);
}

static void
add_refusal_header(struct draft *draft, const char *response, const char *header)
{
    cJSON *headers =
        object_in(draft, object_in(draft, component(draft, "responses"), response), "headers");

    if (!has(headers, header)) {
        (void)put(draft, headers, header, reference(draft, "headers", header));
    }
}

enum {
    REFUSAL_NAME_SIZE = 16
};

static const char *
refusal_name(char name[REFUSAL_NAME_SIZE], enum problem problem)
{
    (void)snprintf(name, REFUSAL_NAME_SIZE, "Problem%u", problem_status(problem));
    return name;
}

/* A response per status, one for any refusal, and the list of codes. */
static void
add_refusals(struct draft *draft)
{
    cJSON *code_schema = object_in(draft, component(draft, "schemas"), "ProblemCode");
    cJSON *codes = put(draft, code_schema, "enum", cJSON_CreateArray());
    cJSON *any;

    for (size_t i = 0; i < ARRAY_LEN(REFUSALS); i++) {
        enum problem problem = REFUSALS[i].problem;
        char name[REFUSAL_NAME_SIZE];

        add_refusal(draft, refusal_name(name, problem), problem_title(problem), problem);
        if (problem_retry_after_s(problem) != 0) {
            add_refusal_header(draft, name, "Retry-After");
        }
        if (problem == PROBLEM_METHOD) {
            add_refusal_header(draft, name, "Allow");
        } else if (problem == PROBLEM_UNAUTHORIZED) {
            add_refusal_header(draft, name, "WWW-Authenticate");
        } else if (problem == PROBLEM_RATE_LIMITED) {
            add_refusal_header(draft, name, "RateLimit");
            add_refusal_header(draft, name, "RateLimit-Policy");
        }
    }
    for (unsigned p = PROBLEM_NONE + 1; p < PROBLEM_COUNT; p++) {
        add_refusal(draft, "Problem", "Any refusal.", (enum problem)p);
    }
    any = component(draft, "responses");
    any = object_in(draft, object_in(draft, any, "Problem"), "content");
    any = object_in(draft, object_in(draft, any, "application/problem+json"), "examples");
    for (const cJSON *example = any == NULL ? NULL : any->child; example != NULL;
         example = example->next) {
        append(draft, codes, cJSON_CreateString(example->string));
    }
}

/* ---- operations ---- */

static void
add_parameter(struct draft *draft, cJSON *operation, const char *name)
{
    cJSON *parameters = cJSON_GetObjectItemCaseSensitive(operation, "parameters");

    if (parameters == NULL) {
        parameters = put(draft, operation, "parameters", cJSON_CreateArray());
    }
    append(draft, parameters, reference(draft, "parameters", name));
}

/* A key, or none: whether one is needed is the configuration's. */
static void
add_security(struct draft *draft, cJSON *operation)
{
    cJSON *ways = put(draft, operation, "security", cJSON_CreateArray());
    cJSON *key = cJSON_CreateObject();

    (void)put(draft, key, "ApiKey", cJSON_CreateArray());
    append(draft, ways, key);
    append(draft, ways, cJSON_CreateObject());
}

static void
complete_operation(struct draft *draft, const struct route *route, cJSON *operation)
{
    cJSON *responses = object_in(draft, operation, "responses");

    add_parameter(draft, operation, "RequestId");
    if (route->auth != AUTH_NONE) {
        add_security(draft, operation);
    }
    for (size_t i = 0; i < ARRAY_LEN(REFUSALS); i++) {
        char name[REFUSAL_NAME_SIZE];
        const char *status = refusal_name(name, REFUSALS[i].problem) + sizeof("Problem") - 1;

        if (in_scope(REFUSALS[i].scope, route) && !has(responses, status)) {
            (void)put(draft, responses, status, reference(draft, "responses", name));
        }
    }
    (void)put(draft, responses, "default", reference(draft, "responses", "Problem"));
}

/* Each response of RESPONSES that is no reference carries the request's id. */
static void
add_request_ids(struct draft *draft, cJSON *responses)
{
    for (cJSON *r = responses == NULL ? NULL : responses->child; r != NULL; r = r->next) {
        if (!has(r, "$ref")) {
            (void)put(draft, object_in(draft, r, "headers"), "X-Request-ID",
                      reference(draft, "headers", "X-Request-ID"));
        }
    }
}

/* The description of ROUTE in the source, NULL when there is none. */
static cJSON *
find_operation(const struct draft *draft, const struct route *route)
{
    const cJSON *paths = cJSON_GetObjectItemCaseSensitive(draft->root, "paths");
    const cJSON *path = cJSON_GetObjectItemCaseSensitive(paths, route->path);

    /* The names of methods differ in case only. */
    return cJSON_GetObjectItem(path, request_method_name(route->method));
}

static void
complete(struct draft *draft, const char *version)
{
    cJSON *info = object_in(draft, draft->root, "info");

    (void)put(draft, info, "version", cJSON_CreateString(version));
    add_refusals(draft);
    add_request_ids(draft, component(draft, "responses"));
    for (uint32_t i = 0; i < ROUTE_COUNT; i++) {
        cJSON *operation = find_operation(draft, &ROUTES[i]);

        if (operation != NULL) {
            complete_operation(draft, &ROUTES[i], operation);
            add_request_ids(draft, cJSON_GetObjectItemCaseSensitive(operation, "responses"));
        }
    }
}

/* ---- YAML ---- */

/*
 * Text that YAML reads as the same string without quotes: a narrow choice, since what looks like
 * a number, a date, a word for true, false or null, or has a mark in it, would be something else.
 */
static bool
is_plain(const char *text)
{
    static const char *const WORDS[] = {"true", "false", "null", "yes", "no", "on",
                                        "off",  "y",     "n",    "nan", "inf"};
    size_t len = strlen(text);

    if (len == 0 || text[len - 1] == ' ' ||
        strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_/+.,;() -") !=
            len ||
        strchr("0123456789+.,;() -", text[0]) != NULL) {
        return false;
    }
    for (size_t i = 0; i < ARRAY_LEN(WORDS); i++) {
        if (strcasecmp(text, WORDS[i]) == 0) {
            return false;
        }
    }
    return true;
}

static void
yaml_text(struct buffer *out, const char *text)
{
    if (is_plain(text)) {
        buffer_append_text(out, text);
    } else {
        buffer_append_json_string(out, span_of(text)); /* a JSON string is a YAML string */
    }
}

static void
yaml_indent(struct buffer *out, int depth)
{
    for (int i = 0; i < depth; i++) {
        buffer_append_text(out, "  ");
    }
}

static void
yaml_scalar(struct buffer *out, const cJSON *value)
{
    if (cJSON_IsString(value)) {
        yaml_text(out, value->valuestring);
    } else if (cJSON_IsNumber(value)) {
        buffer_append_json_number(out, value->valuedouble);
    } else if (cJSON_IsBool(value)) {
        buffer_append_text(out, cJSON_IsTrue(value) ? "true" : "false");
    } else if (cJSON_IsNull(value)) {
        buffer_append_text(out, "null");
    } else {
        buffer_append_text(out, cJSON_IsArray(value) ? "[]" : "{}");
    }
}

/*
 * Writes VALUE's members or elements, each on a line of DEPTH; the first goes on in the line that
 * has begun when INLINE. The depth is that of our own document, so recursion is bounded.
 */
static void
yaml_block(struct buffer *out, const cJSON *value, int depth, bool in_line)
{
    for (const cJSON *item = value->child; item != NULL; item = item->next) {
        bool nested = item->child != NULL;

        if (!in_line) {
            yaml_indent(out, depth);
        }
        in_line = false;
        if (cJSON_IsArray(value)) {
            buffer_append_text(out, "- ");
            if (nested) {
                yaml_block(out, item, depth + 1, true);
                continue;
            }
        } else {
            yaml_text(out, item->string);
            buffer_append_text(out, nested ? ":\n" : ": ");
            if (nested) {
                yaml_block(out, item, depth + 1, false);
                continue;
            }
        }
        yaml_scalar(out, item);
        buffer_append_char(out, '\n');
    }
}

/* ---- the whole ---- */

enum err
openapi_build(struct openapi *out, const char *version)
{
    struct span source = EMBEDDED(openapi_source);
    struct draft draft = {cJSON_ParseWithLength(source.data, source.len), false};
    char *json = NULL;

    if (draft.root != NULL) {
        complete(&draft, version);
        json = cJSON_PrintUnformatted(draft.root);
    }
    if (json != NULL && !draft.failed) {
        buffer_append_text(&out->text[OPENAPI_JSON], json);
        buffer_append_char(&out->text[OPENAPI_JSON], '\n');
        yaml_block(&out->text[OPENAPI_YAML], draft.root, 0, false);
    } else {
        draft.failed = true;
    }
    cJSON_free(json);
    cJSON_Delete(draft.root);
    if (draft.failed || out->text[OPENAPI_JSON].failed || out->text[OPENAPI_YAML].failed) {
        return ERR_NO_MEMORY;
    }
    return ERR_OK;
}

void
openapi_free(struct openapi *openapi)
{
    for (size_t i = 0; i < OPENAPI_FORMS; i++) {
        buffer_free(&openapi->text[i]);
    }
}

const char *
openapi_type(enum openapi_form form)
{
    switch (form) {
    case OPENAPI_JSON:
        return "application/json";
    case OPENAPI_YAML:
        return "application/yaml";
    case OPENAPI_FORMS:
        break;
    }
    assert_failed(__FILE__, __LINE__, "a form of the list");
}
