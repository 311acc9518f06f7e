#include "core/query/dead_letters.h"

#include "core/base/json.h"
#include "core/base/json_member.h"
#include "core/base/uuid.h"

enum {
    PAGE_BYTES_MAX = 4 << 20, /* a page ends with the letter that reaches it */
};

static const char *const STATE_NAMES[LETTER_STATES + 1] = {
    [LETTER_PENDING] = "pending",
    [LETTER_REPLAYED] = "replayed",
    [LETTER_DISCARDED] = "discarded",
    [LETTER_STATES] = "all",
};

const char *
dead_letter_state_name(enum dead_letter_state state)
{
    ASSERT(state < LETTER_STATES);
    return STATE_NAMES[state];
}

enum dead_letter_state
dead_letter_state_of(const struct dead_letter *letter)
{
    if (letter->replayed_us != 0) {
        return LETTER_REPLAYED;
    }
    return letter->discarded_us != 0 ? LETTER_DISCARDED : LETTER_PENDING;
}

enum err
dead_letter_state_parse(struct span text, enum dead_letter_state *out)
{
    for (size_t i = 0; i < ARRAY_LEN(STATE_NAMES); i++) {
        if (span_is(text, STATE_NAMES[i])) {
            *out = (enum dead_letter_state)i;
            return ERR_OK;
        }
    }
    return ERR_INVALID;
}

enum err
dead_letter_id_parse(struct span text, uint64_t *out)
{
    uint64_t id = 0;

    for (size_t i = 0; i < text.len; i++) {
        const uint64_t digit = (uint64_t)(unsigned char)text.data[i] - '0';

        if (digit > 9 || id > (UINT64_MAX - digit) / 10) {
            return ERR_INVALID;
        }
        id = id * 10 + digit;
    }
    if (id == 0) {
        return ERR_INVALID;
    }
    *out = id;
    return ERR_OK;
}

/* ---- one letter ---- */

static void
write_payload(struct buffer *out, struct span payload)
{
    struct json_text text;
    struct json_error error;

    if (payload.data == NULL || json_scan(payload, JSON_DEPTH_LIMIT, &text, &error) != ERR_OK) {
        json_member_text(out, "payload", payload); /* somebody has changed it by hand */
    } else {
        json_member_raw(out, "payload", text.value.raw);
    }
}

void
dead_letter_write(struct buffer *out, const struct dead_letter *letter)
{
    char node[UUID_TEXT_SIZE];

    uuid_text(letter->node_id, node);
    buffer_append_text(out, "{\"id\":");
    buffer_append_u64(out, letter->id);
    buffer_printf(out, ",\"state\":\"%s\",\"duplicate\":%s,\"node_id\":\"%s\",\"seq\":",
                  dead_letter_state_name(dead_letter_state_of(letter)),
                  letter->duplicate ? "true" : "false", node);
    buffer_append_u64(out, letter->seq);
    json_member_text(out, "tenant_id", letter->tenant);
    json_member_text(out, "event_id", letter->event_id);
    json_member_text(out, "event_name", letter->event_name);
    json_member_text(out, "reason", letter->reason);
    buffer_append_text(out, ",\"error_code\":");
    buffer_append_u64(out, letter->error_code);
    json_member_moment(out, "created_at", letter->created_us);
    json_member_moment(out, "replayed_at", letter->replayed_us);
    json_member_moment(out, "discarded_at", letter->discarded_us);
    write_payload(out, letter->payload);
    buffer_append_char(out, '}');
}

/* ---- a page ---- */

struct page {
    struct buffer *out;
    size_t start;
    uint32_t limit;
    uint32_t count;
    uint64_t last_id;
    bool more;
};

static enum err
add_to_page(void *arg, const struct dead_letter *letter)
{
    struct page *page = arg;

    if (page->count == page->limit || page->out->len - page->start >= PAGE_BYTES_MAX) {
        page->more = true;
        return ERR_CLOSED;
    }
    if (page->count > 0) {
        buffer_append_char(page->out, ',');
    }
    dead_letter_write(page->out, letter);
    page->count++;
    page->last_id = letter->id;
    return page->out->failed ? ERR_NO_MEMORY : ERR_OK;
}

enum err
dead_letters_page(const struct dead_letter_store *store, const struct dead_letter_request *request,
                  struct buffer *out)
{
    struct page page = {.out = out, .start = out->len, .limit = request->limit};
    struct dead_letter_request ask = *request;
    enum err err;

    ask.limit++; /* the one too many tells that there are more */
    buffer_append_text(out, "{\"dead_letters\":[");
    err = store->ops->list(store->self, &ask, add_to_page, &page);
    if (err != ERR_OK && !page.more) {
        return err;
    }
    buffer_append_text(out, "],\"next_cursor\":");
    if (page.more) {
        buffer_append_char(out, '"');
        buffer_append_u64(out, page.last_id);
        buffer_append_char(out, '"');
    } else {
        buffer_append_text(out, "null");
    }
    buffer_append_text(out, "}\n");
    return out->failed ? ERR_NO_MEMORY : ERR_OK;
}
