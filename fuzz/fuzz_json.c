/*
 * Any bytes into the JSON scan. What it accepts must be accepted by cJSON too (a second opinion
 * that is known to be laxer, never stricter), with the same strings and numbers; and the walk over
 * the accepted text must find what the scan found.
 */
#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>

#include "core/base/json.h"
#include "fuzz/fuzz.h"

enum {
    DEPTH_MAX = 64
};

static void
check_string(struct span raw, const char *expected)
{
    const struct span content = json_content(raw);
    char *text = malloc(content.len + 1);
    size_t len;

    ASSERT(text != NULL);
    len = json_unescape(content, text);
    ASSERT(len <= content.len);
    ASSERT(json_content_is(content, true, (struct span){text, len}));
    if (memchr(text, 0, len) == NULL) { /* cJSON's strings end at a NUL */
        ASSERT(len == strlen(expected));
        ASSERT(memcmp(text, expected, len) == 0);
    }
    free(text);
}

static void
check_number(struct span raw, double expected)
{
    double value;
    int64_t integer;
    enum err err = json_double(raw, &value);

    ASSERT(err == ERR_OK);
    ASSERT(isfinite(value));
    if (raw.len < 60) { /* cJSON reads no more than 63 bytes of a number */
        ASSERT(value == expected);
    }
    if (json_integer(raw, &integer) == ERR_OK) {
        ASSERT((double)integer == value);
    }
}

static void
check_value(const struct json_value *value, const cJSON *item)
{
    struct json_member member;
    struct json_value element;
    const cJSON *child = item->child;
    size_t offset = 0;

    switch (value->type) {
    case JSON_NULL:
        ASSERT(cJSON_IsNull(item));
        break;
    case JSON_BOOL:
        ASSERT(cJSON_IsBool(item));
        ASSERT(cJSON_IsTrue(item) == (value->raw.data[0] == 't'));
        break;
    case JSON_NUMBER:
        ASSERT(cJSON_IsNumber(item));
        check_number(value->raw, item->valuedouble);
        break;
    case JSON_STRING:
        ASSERT(cJSON_IsString(item));
        check_string(value->raw, item->valuestring);
        break;
    case JSON_ARRAY:
        ASSERT(cJSON_IsArray(item));
        for (; json_element_next(value->raw, &offset, &element); child = child->next) {
            ASSERT(child != NULL);
            check_value(&element, child);
        }
        ASSERT(child == NULL);
        break;
    case JSON_OBJECT:
        ASSERT(cJSON_IsObject(item));
        for (; json_member_next(value->raw, &offset, &member); child = child->next) {
            ASSERT(child != NULL);
            check_string((struct span){member.name.data - 1, member.name.len + 2}, child->string);
            check_value(&member.value, child);
        }
        ASSERT(child == NULL);
        break;
    }
}

static void
check_members(const struct json_text *text)
{
    struct json_walk walk = {0, 0};
    struct json_member kept;
    struct json_member walked;
    size_t offset = 0;

    if (text->value.type != JSON_OBJECT) {
        ASSERT(text->member_count == 0);
        return;
    }
    while (json_text_next(text, &walk, &kept)) {
        bool more = json_member_next(text->value.raw, &offset, &walked);

        ASSERT(more);
        ASSERT(kept.name.data == walked.name.data);
        ASSERT(kept.name.len == walked.name.len);
        ASSERT(kept.name_escaped == walked.name_escaped);
        ASSERT(kept.value.raw.data == walked.value.raw.data);
        ASSERT(kept.value.raw.len == walked.value.raw.len);
        ASSERT(kept.value.type == walked.value.type);
        ASSERT(kept.value.escaped == walked.value.escaped);
    }
    ASSERT(!json_member_next(text->value.raw, &offset, &walked));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct span bytes = {(const char *)data, size};
    struct json_text text;
    struct json_error error = {NULL, SIZE_MAX};
    enum err err = json_scan(bytes, DEPTH_MAX, &text, &error);
    cJSON *item;

    if (err != ERR_OK) {
        ASSERT(err == ERR_INVALID);
        ASSERT(error.text != NULL && error.text[0] != 0);
        ASSERT(error.offset <= size);
        return 0;
    }
    check_members(&text);
    item = cJSON_ParseWithLength((const char *)data, size);
    ASSERT(item != NULL);
    check_value(&text.value, item);
    cJSON_Delete(item);
    return 0;
}
