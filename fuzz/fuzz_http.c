/*
 * Raw bytes into the parser layer, as a connection would feed them: cut into reads, with bodies
 * kept or thrown away, every accessor called. Nothing may trip an ASSERT or a sanitizer, and the
 * same bytes cut elsewhere must come to the same requests.
 *
 * With a fuzzing engine: LLVMFuzzerTestOneInput. Without (-DFUZZ_REPLAY): main() replays the files
 * it is given.
 */
#include <stdio.h>
#include <stdlib.h>

#include "http/request.h"
#include "http/route.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    BODY_MAX = 4096
};

struct run {
    struct parser parser;
    struct budget budget;
    struct request request;
    uint64_t digest;
    bool begun;
    bool refused;
};

static void
mix(struct run *run, const void *bytes, size_t len)
{
    const unsigned char *at = bytes;

    for (size_t i = 0; i < len; i++) {
        run->digest = (run->digest ^ at[i]) * 1099511628211ULL;
    }
}

static void
mix_span(struct run *run, struct span span)
{
    mix(run, &span.len, sizeof(span.len));
    if (span.len > 0) {
        mix(run, span.data, span.len);
    }
}

static void
look_at_head(struct run *run)
{
    struct request *request = &run->request;
    struct buffer value = BUFFER_EMPTY;
    uint32_t allowed;
    size_t at = 0;
    bool facts[4];

    for (uint32_t i = 0; i < FIELD_COUNT; i++) {
        mix_span(run, request_field(request, (enum request_field)i));
    }
    mix_span(run, request_path(request));
    mix_span(run, request_trace_id(request));
    if (request_query(request, "service", &value) == ERR_OK) {
        mix_span(run, buffer_span(&value));
    }
    buffer_clear(&value, SIZE_MAX);
    while (request_query_next(request, &at, &value, &value) == ERR_OK) {
        mix_span(run, buffer_span(&value));
    }
    buffer_free(&value);
    facts[0] = request_is_json(request);
    facts[1] = request_is_identity(request);
    facts[2] = request_expects_continue(request);
    facts[3] = route_find(request->method, request_path(request), &allowed) != NULL;
    mix(run, facts, sizeof(facts));
    request->body_max = BODY_MAX;
    request->discard = !facts[1];
}

static void
feed(struct run *run, const uint8_t *data, size_t len)
{
    /* A copy of the exact size: a step beyond it is seen. */
    char *copy = malloc(len == 0 ? 1 : len);
    size_t at = 0;

    ASSERT(copy != NULL);
    if (len > 0) {
        memcpy(copy, data, len);
    }
    while (!run->refused && (run->begun || at < len)) {
        enum problem why = PROBLEM_NONE;
        enum parse_step step;
        size_t used = 0;

        if (!run->begun) {
            parser_begin(&run->parser, &run->request);
            run->begun = true;
        }
        step = parser_feed(&run->parser, (struct span){copy + at, len - at}, &used, &why);
        at += used;
        if (step == PARSE_MORE) {
            ASSERT(at == len);
            break;
        }
        if (step == PARSE_HEAD) {
            look_at_head(run);
        } else if (step == PARSE_COMPLETE) {
            mix_span(run, request_body(&run->request));
            request_reset(&run->request, &run->budget, 256);
            run->begun = false;
        } else {
            ASSERT(why != PROBLEM_NONE);
            run->refused = true;
        }
    }
    free(copy);
}

static uint64_t
run_in_pieces(const uint8_t *data, size_t size, size_t piece)
{
    static const struct request_limits LIMITS = {32 * 1024, 8 * 1024, 100};
    struct run run;
    uint64_t digest;

    memset(&run, 0, sizeof(run));
    run.budget.max = 1 << 20;
    run.digest = 14695981039346656037ULL;
    parser_init(&run.parser, &LIMITS, &run.budget);
    for (size_t at = 0; at < size; at += piece) {
        feed(&run, data + at, size - at < piece ? size - at : piece);
    }
    mix(&run, &run.refused, sizeof(run.refused));
    digest = run.digest;
    request_free(&run.request, &run.budget);
    ASSERT(run.budget.used == 0);
    return digest;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint64_t whole;

    if (size == 0) {
        return 0;
    }
    whole = run_in_pieces(data, size, size);
    ASSERT(run_in_pieces(data, size, 1) == whole);
    ASSERT(run_in_pieces(data, size, 7) == whole);
    return 0;
}

#ifdef FUZZ_REPLAY
int
main(int argc, char **argv)
{
    static uint8_t data[1 << 20];

    for (int i = 1; i < argc; i++) {
        FILE *file = fopen(argv[i], "rb");
        size_t size;

        if (file == NULL) {
            perror(argv[i]);
            return 1;
        }
        size = fread(data, 1, sizeof(data), file);
        (void)fclose(file);
        (void)LLVMFuzzerTestOneInput(data, size);
    }
    return 0;
}
#endif
