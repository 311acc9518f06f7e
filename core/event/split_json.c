/*
 * A JSON array of elements, alone or as the member `events` of an object, whose other members are
 * checked and not used.
 *
 * Values are told apart by brackets and quotes alone; each is then checked strictly by whoever
 * reads it, and what stands between them is checked here. Together that is a strict check of the
 * whole text.
 */
#include "core/base/json.h"
#include "core/event/split.h"

enum place {
    AT_START,
    AT_NAME_OR_END, /* after { */
    AT_NAME,        /* after a comma between members */
    AT_COLON,
    AT_ARRAY, /* the value of `events` */
    AT_VALUE, /* of another member */
    AT_MEMBER_END,
    AT_ELEMENT_OR_END, /* after [ */
    AT_ELEMENT,        /* after a comma between elements */
    AT_ELEMENT_END,
    AT_REST, /* only space may follow */
};

enum {
    DEPTH_MAX = 64
};

static enum split_step
broken(struct splitter *splitter, const char *text)
{
    return split_fail(splitter, SPLIT_BROKEN, "invalid_json", text);
}

static enum split_step
cut_short(struct splitter *splitter)
{
    return broken(splitter, "invalid JSON payload: the text ends too early");
}

static void
begin_value(struct splitter *splitter)
{
    struct split_json *json = &splitter->json;
    const char first = *splitter->at;

    json->in_value = true;
    json->in_string = false;
    json->after_backslash = false;
    json->scalar = first != '"' && first != '{' && first != '[';
    json->depth = 0;
}

static bool
ends_scalar(char c)
{
    return c == ',' || c == ']' || c == '}' || c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

/* Steps over the rest of the value; false when its end has not come. */
static bool
skip_value(struct splitter *splitter)
{
    struct split_json *json = &splitter->json;
    const char *at = splitter->at;
    const char *end = splitter->end;
    bool complete = false;

    if (json->scalar) {
        while (at < end && !ends_scalar(*at)) {
            at++;
        }
        splitter->at = at;
        return at < end;
    }
    while (at < end && !complete) {
        const char c = *at++;

        if (json->in_string) {
            if (json->after_backslash) {
                json->after_backslash = false;
            } else if (c == '\\') {
                json->after_backslash = true;
            } else if (c == '"') {
                json->in_string = false;
                complete = json->depth == 0;
            }
        } else if (c == '"') {
            json->in_string = true;
        } else if (c == '{' || c == '[') {
            json->depth++;
        } else if (c == '}' || c == ']') {
            json->depth--;
            complete = json->depth == 0;
        }
    }
    splitter->at = at;
    return complete;
}

/* A name, or the value of a member that is not `events`. SPLIT_MORE: go on. */
static enum split_step
check_member_part(struct splitter *splitter, struct span text)
{
    struct split_json *json = &splitter->json;
    struct json_text scanned;
    struct json_error error;
    enum err err = json_scan(text, DEPTH_MAX, &scanned, &error);

    if (err == ERR_NO_MEMORY) {
        return SPLIT_NO_MEMORY;
    }
    if (err != ERR_OK) {
        return broken(splitter, error.text);
    }
    if (json->place == AT_VALUE) {
        json->place = AT_MEMBER_END;
        return SPLIT_MORE;
    }
    json->place = AT_COLON;
    json->in_object = false; /* until the name says that its value is the array */
    if (json_content_is(json_content(scanned.value.raw), scanned.value.escaped,
                        SPAN_LITERAL("events"))) {
        if (json->known) {
            return broken(splitter, "a member name that the object already has");
        }
        json->known = true;
        json->in_object = true;
    }
    return SPLIT_MORE;
}

static enum split_step
finish_value(struct splitter *splitter, const char *from, struct span *out)
{
    struct split_json *json = &splitter->json;
    struct span text;
    enum split_step step = split_take(splitter, from, splitter->at, &text);

    json->in_value = false;
    if (json->place == AT_ELEMENT || step == SPLIT_NO_MEMORY) {
        json->place = AT_ELEMENT_END;
        *out = text;
        return step;
    }
    if (step == SPLIT_BAD) {
        return broken(splitter, "a member beside `events` is too long");
    }
    step = check_member_part(splitter, text);
    if (splitter->given) {
        splitter->given = false;
        buffer_clear(&splitter->held, SIZE_MAX);
    }
    return step;
}

/* What may stand between values. SPLIT_MORE: one byte was used, or a value begins. */
static enum split_step
take_mark(struct splitter *splitter)
{
    struct split_json *json = &splitter->json;
    const char c = *splitter->at;

    switch ((enum place)json->place) {
    case AT_START:
        if (c != '[' && c != '{') {
            return broken(splitter, "an array, or an object with the array `events`, is expected");
        }
        json->place = c == '[' ? AT_ELEMENT_OR_END : AT_NAME_OR_END;
        json->known = c == '[';
        break;
    case AT_NAME_OR_END:
    case AT_NAME:
        if (c == '"') {
            json->place = AT_NAME;
            begin_value(splitter);
            return SPLIT_MORE;
        }
        if (c != '}' || json->place == AT_NAME) {
            return broken(splitter, "a member name in double quotes is expected");
        }
        json->place = AT_REST;
        break;
    case AT_COLON:
        if (c != ':') {
            return broken(splitter, "a colon is expected");
        }
        json->place = json->in_object ? AT_ARRAY : AT_VALUE;
        break;
    case AT_ARRAY:
        if (c != '[') {
            return split_fail(splitter, SPLIT_BROKEN, "validation_error",
                              "events must be an array");
        }
        json->place = AT_ELEMENT_OR_END;
        break;
    case AT_MEMBER_END:
        if (c != ',' && c != '}') {
            return broken(splitter, "a comma or the end of the object is expected");
        }
        json->place = c == ',' ? AT_NAME : AT_REST;
        break;
    case AT_ELEMENT_OR_END:
        if (c == ']') {
            json->place = json->in_object ? AT_MEMBER_END : AT_REST;
            break;
        }
        json->place = AT_ELEMENT;
        begin_value(splitter);
        return SPLIT_MORE;
    case AT_VALUE:
    case AT_ELEMENT:
        begin_value(splitter);
        return SPLIT_MORE;
    case AT_ELEMENT_END:
        if (c != ',' && c != ']') {
            return broken(splitter, "a comma or the end of the array is expected");
        }
        json->place = c == ',' ? AT_ELEMENT : json->in_object ? AT_MEMBER_END : AT_REST;
        break;
    case AT_REST:
        return broken(splitter, "something follows the end of the value");
    }
    splitter->at++;
    return SPLIT_MORE;
}

static enum split_step
end_of_text(struct splitter *splitter)
{
    if (splitter->json.place != AT_REST) {
        return cut_short(splitter);
    }
    if (!splitter->json.known) {
        return split_fail(splitter, SPLIT_BROKEN, "validation_error", "events required");
    }
    return SPLIT_DONE;
}

static bool
is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

enum split_step
split_json_next(struct splitter *splitter, struct span *out)
{
    struct split_json *json = &splitter->json;
    enum split_step step = SPLIT_MORE;

    while (step == SPLIT_MORE) {
        const char *start;

        while (!json->in_value && splitter->at < splitter->end && is_space(*splitter->at)) {
            splitter->at++;
        }
        start = splitter->at;
        if (start == splitter->end && !splitter->ended) {
            return SPLIT_MORE;
        }
        if (json->in_value) {
            if (skip_value(splitter) || (splitter->ended && json->scalar)) {
                step = finish_value(splitter, start, out);
            } else {
                return splitter->ended ? cut_short(splitter) : split_hold(splitter, start);
            }
        } else {
            step = start == splitter->end ? end_of_text(splitter) : take_mark(splitter);
        }
    }
    return step;
}
