/*
 * test_openapi.c - the description and the tables it is about cannot part ways.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include <cjson/cJSON.h>

#include "http/openapi.h"
#include "http/problem.h"
#include "http/route.h"
#include "tests/unit/failing_alloc.h"

struct fixture {
    struct openapi openapi;
    cJSON *root;
};

static int
setup(void **state)
{
    static struct fixture fixture;
    struct span json;

    memset(&fixture, 0, sizeof(fixture));
    assert_int_equal(openapi_build(&fixture.openapi, "1.2.3-test"), ERR_OK);
    json = buffer_span(&fixture.openapi.text[OPENAPI_JSON]);
    fixture.root = cJSON_ParseWithLength(json.data, json.len);
    assert_non_null(fixture.root);
    *state = &fixture;
    return 0;
}

static int
teardown(void **state)
{
    struct fixture *f = *state;

    cJSON_Delete(f->root);
    openapi_free(&f->openapi);
    return 0;
}

static const cJSON *
at(const cJSON *object, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(object, key);
}

static const cJSON *
component(const struct fixture *f, const char *kind, const char *name)
{
    return at(at(at(f->root, "components"), kind), name);
}

static const cJSON *
operation_of(const struct fixture *f, const struct route *route)
{
    return cJSON_GetObjectItem(at(at(f->root, "paths"), route->path),
                               request_method_name(route->method));
}

static void
every_route_is_described(void **state)
{
    for (uint32_t i = 0; i < ROUTE_COUNT; i++) {
        const cJSON *operation = operation_of(*state, &ROUTES[i]);

        if (operation == NULL) {
            fail_msg("openapi.json does not describe %s %s", request_method_name(ROUTES[i].method),
                     ROUTES[i].path);
        }
        assert_true(cJSON_IsString(at(operation, "summary")));
        assert_true(cJSON_IsString(at(operation, "operationId")));
        assert_int_equal(at(operation, "requestBody") != NULL, ROUTES[i].body != BODY_NONE);
    }
}

static bool
is_route(const char *method, const char *path)
{
    for (uint32_t i = 0; i < ROUTE_COUNT; i++) {
        if (strcmp(ROUTES[i].path, path) == 0 &&
            strcasecmp(request_method_name(ROUTES[i].method), method) == 0) {
            return true;
        }
    }
    return false;
}

static void
nothing_is_described_that_is_no_route(void **state)
{
    const struct fixture *f = *state;
    const cJSON *path;
    const cJSON *operation;
    uint32_t count = 0;

    cJSON_ArrayForEach(path, at(f->root, "paths"))
    {
        cJSON_ArrayForEach(operation, path)
        {
            if (!is_route(operation->string, path->string)) {
                fail_msg("there is no route for %s %s", operation->string, path->string);
            }
            count++;
        }
    }
    assert_int_equal(count, ROUTE_COUNT);
}

static void
every_route_tells_its_refusals_and_the_request_id(void **state)
{
    static const char *const EVERY[] = {"400", "405", "408", "413", "414", "431", "503", "default"};
    static const char *const EVENT[] = {"200", "202", "422"};
    static const char *const STORE[] = {"202", "411", "415", "429", "500"};

    for (uint32_t i = 0; i < ROUTE_COUNT; i++) {
        const cJSON *operation = operation_of(*state, &ROUTES[i]);
        const cJSON *responses = at(operation, "responses");
        bool found = false;
        const cJSON *parameter;

        for (size_t s = 0; s < ARRAY_LEN(EVERY); s++) {
            assert_non_null(at(responses, EVERY[s]));
        }
        assert_int_equal(at(responses, "401") != NULL, ROUTES[i].auth != AUTH_NONE);
        assert_int_equal(at(responses, "403") != NULL, ROUTES[i].auth != AUTH_NONE);
        assert_int_equal(at(operation, "security") != NULL, ROUTES[i].auth != AUTH_NONE);
        for (size_t s = 0; s < ARRAY_LEN(EVENT); s++) {
            assert_true(ROUTES[i].body != BODY_EVENT || at(responses, EVENT[s]) != NULL);
        }
        for (size_t s = 0; s < ARRAY_LEN(STORE); s++) {
            assert_true(!route_takes_events(&ROUTES[i]) || at(responses, STORE[s]) != NULL);
        }
        cJSON_ArrayForEach(parameter, at(operation, "parameters"))
        {
            const cJSON *ref = at(parameter, "$ref");

            found = found || (ref != NULL &&
                              strcmp(ref->valuestring, "#/components/parameters/RequestId") == 0);
        }
        assert_true(found);
    }
}

/* The schema's list has CODE, and the response for any refusal an example of it. */
static void
assert_code(const struct fixture *f, enum problem problem)
{
    const char *code = problem_code(problem);
    const cJSON *response = component(f, "responses", "Problem");
    const cJSON *content = at(at(response, "content"), "application/problem+json");
    const cJSON *value = at(at(at(content, "examples"), code), "value");
    const cJSON *item;
    int times = 0;

    cJSON_ArrayForEach(item, at(component(f, "schemas", "ProblemCode"), "enum"))
    {
        times += strcmp(item->valuestring, code) == 0;
    }
    assert_int_equal(times, 1);
    assert_string_equal(at(value, "error")->valuestring, code);
    assert_true(cJSON_IsString(at(value, "request_id")));
}

static void
every_problem_code_is_listed_once_with_an_example(void **state)
{
    for (unsigned p = PROBLEM_NONE + 1; p < PROBLEM_COUNT; p++) {
        assert_code(*state, (enum problem)p);
    }
    assert_null(at(at(component(*state, "responses", "Problem"), "content"), "none"));
}

static void
a_refusal_names_the_headers_that_come_with_it(void **state)
{
    const cJSON *busy = at(component(*state, "responses", "Problem503"), "headers");
    const cJSON *method = at(component(*state, "responses", "Problem405"), "headers");
    const cJSON *large = at(component(*state, "responses", "Problem413"), "headers");

    assert_non_null(at(busy, "Retry-After"));
    assert_non_null(at(busy, "X-Request-ID"));
    assert_non_null(at(method, "Allow"));
    assert_null(at(method, "Retry-After"));
    assert_null(at(large, "Retry-After"));
    assert_non_null(
        at(at(component(*state, "responses", "Problem401"), "headers"), "WWW-Authenticate"));
    assert_non_null(at(at(component(*state, "responses", "Problem429"), "headers"), "RateLimit"));
    assert_non_null(at(large, "X-Request-ID"));
}

static void
follow(const struct fixture *f, const char *reference)
{
    const cJSON *found = f->root;
    char path[128];
    char *rest = path;
    char *part;

    assert_int_equal(strncmp(reference, "#/", 2), 0);
    (void)snprintf(path, sizeof(path), "%s", reference + 2);
    while ((part = strsep(&rest, "/")) != NULL) {
        found = at(found, part);
    }
    if (found == NULL) {
        fail_msg("%s points to nothing", reference);
    }
}

static void
follow_all(const struct fixture *f, const cJSON *value)
{
    const cJSON *item;

    if (value->string != NULL && strcmp(value->string, "$ref") == 0) {
        follow(f, value->valuestring);
    }
    cJSON_ArrayForEach(item, value)
    {
        follow_all(f, item);
    }
}

static void
every_reference_leads_somewhere(void **state)
{
    const struct fixture *f = *state;

    follow_all(f, f->root);
}

static void
the_version_is_the_program_s(void **state)
{
    const struct fixture *f = *state;

    assert_string_equal(at(at(f->root, "info"), "version")->valuestring, "1.2.3-test");
    assert_string_equal(at(f->root, "openapi")->valuestring, "3.1.0");
}

/* LINE stands in the YAML by itself. */
static bool
yaml_has(const struct fixture *f, const char *line)
{
    struct span yaml = buffer_span(&f->openapi.text[OPENAPI_YAML]);
    char text[160];
    int len = snprintf(text, sizeof(text), "\n%s\n", line);

    return memmem(yaml.data, yaml.len, text, (size_t)len) != NULL;
}

static void
the_yaml_has_every_route_and_quotes_what_would_read_as_something_else(void **state)
{
    const struct fixture *f = *state;
    struct span yaml = buffer_span(&f->openapi.text[OPENAPI_YAML]);

    assert_int_equal(strncmp(yaml.data, "openapi: \"3.1.0\"\n", 17), 0);
    for (uint32_t i = 0; i < ROUTE_COUNT; i++) {
        char line[96];
        const char *quote = strchr(ROUTES[i].path, '{') != NULL ? "\"" : "";

        (void)snprintf(line, sizeof(line), "  %s%s%s:", quote, ROUTES[i].path, quote);
        assert_true(yaml_has(f, line));
    }
    assert_true(yaml_has(f, "security: []"));
    assert_true(yaml_has(f, "    version: \"1.2.3-test\"") ||
                yaml_has(f, "  version: \"1.2.3-test\""));
    assert_true(yaml_has(f, "        \"202\":"));
    assert_true(yaml_has(f, "            - \"null\""));
    assert_true(yaml_has(f, "        - Ingest"));
    assert_null(memchr(yaml.data, '\t', yaml.len));
    assert_null(memchr(yaml.data, '\0', yaml.len));
}

/* Every third allocation fails in turn, and all after it. */
static void
without_memory_there_is_no_description_rather_than_half_of_one(void **state)
{
    enum err err = ERR_NO_MEMORY;
    long count = 0;

    (void)state;
    if (!FAILING_ALLOC) {
        print_message("the sanitizers bring their own malloc()\n");
        skip();
    }
    for (; err != ERR_OK; count += 3) {
        struct openapi openapi = {{BUFFER_EMPTY, BUFFER_EMPTY}};

        fail_allocations_after(count);
        err = openapi_build(&openapi, "1");
        fail_allocations_after(-1);
        assert_true(err == ERR_OK || err == ERR_NO_MEMORY);
        openapi_free(&openapi);
    }
    assert_true(count > 1000);
}

static void
each_form_has_its_type(void **state)
{
    (void)state;
    assert_string_equal(openapi_type(OPENAPI_JSON), "application/json");
    assert_string_equal(openapi_type(OPENAPI_YAML), "application/yaml");
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(every_route_is_described),
        TEST(nothing_is_described_that_is_no_route),
        TEST(every_route_tells_its_refusals_and_the_request_id),
        TEST(every_problem_code_is_listed_once_with_an_example),
        TEST(a_refusal_names_the_headers_that_come_with_it),
        TEST(every_reference_leads_somewhere),
        TEST(the_version_is_the_program_s),
        TEST(the_yaml_has_every_route_and_quotes_what_would_read_as_something_else),
        TEST(without_memory_there_is_no_description_rather_than_half_of_one),
        TEST(each_form_has_its_type),
    };
#undef TEST

    (void)alarm(60);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
