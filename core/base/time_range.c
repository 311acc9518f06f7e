#include "core/base/time_range.h"

#include "core/base/timestamp.h"

static const int64_t second_us = INT64_C(1000000);

/* Digits, perhaps with a minus before them. */
static bool
is_integer(struct span text)
{
    const size_t sign = text.len > 0 && text.data[0] == '-' ? 1 : 0;

    for (size_t i = sign; i < text.len; i++) {
        if (text.data[i] < '0' || text.data[i] > '9') {
            return false;
        }
    }
    return text.len > sign;
}

static bool
parse_seconds(struct span text, int64_t *us_out)
{
    const bool negative = text.data[0] == '-';
    int64_t value = 0;

    for (size_t i = negative ? 1 : 0; i < text.len; i++) {
        value = value * 10 + (text.data[i] - '0');
        if (value > TIMESTAMP_MAX_US / second_us) {
            return false;
        }
    }
    value = negative ? -value : value;
    *us_out = value * second_us;
    return *us_out >= TIMESTAMP_MIN_US;
}

enum err
time_range_parse_time(struct span text, int64_t *us_out)
{
    char mended[64];
    size_t sign_at;

    if (text.len < sizeof("+00:00") || text.len > sizeof(mended)) {
        return ERR_INVALID;
    }
    sign_at = text.len - (sizeof("+00:00") - 1);
    memcpy(mended, text.data, text.len);
    if (mended[sign_at] == ' ') {
        mended[sign_at] = '+';
    }
    return timestamp_parse((struct span){mended, text.len}, us_out);
}

static enum err
parse_bound(const char *name, struct span text, bool *epoch, int64_t *us_out,
            struct buffer *problem)
{
    *epoch = is_integer(text);
    if (*epoch && !parse_seconds(text, us_out)) {
        buffer_printf(problem, "%s must be epoch seconds within the years 0001 to 9999", name);
        return ERR_INVALID;
    }
    if (!*epoch && time_range_parse_time(text, us_out) != ERR_OK) {
        buffer_printf(problem, "%s must be RFC3339", name);
        return ERR_INVALID;
    }
    return ERR_OK;
}

enum err
time_range_parse(struct span from, struct span to, struct time_range *out, struct buffer *problem)
{
    struct time_range range = {false, TIMESTAMP_MIN_US, TIMESTAMP_MAX_US + 1};
    bool from_is_epoch = false;
    bool to_is_epoch = false;

    if (from.len > 0 &&
        parse_bound("from", from, &from_is_epoch, &range.from_us, problem) != ERR_OK) {
        return ERR_INVALID;
    }
    if (to.len > 0 && parse_bound("to", to, &to_is_epoch, &range.to_us, problem) != ERR_OK) {
        return ERR_INVALID;
    }
    range.epoch = from_is_epoch || to_is_epoch;
    if (from.len > 0 && to.len > 0) {
        const char *wrong = NULL;

        if (from_is_epoch != to_is_epoch) {
            wrong = "from and to must both be RFC3339 or both be epoch seconds";
        } else if (!range.epoch && range.from_us >= range.to_us) {
            wrong = "from must be < to";
        } else if (range.epoch && range.from_us > range.to_us) {
            wrong = "from timestamp must be less than or equal to to timestamp";
        }
        if (wrong != NULL) {
            buffer_append_text(problem, wrong);
            return ERR_INVALID;
        }
    }
    range.to_us += to_is_epoch ? second_us : 0;
    *out = range;
    return ERR_OK;
}
