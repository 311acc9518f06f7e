/*
 * CSV (RFC 4180) into one JSON object per row; the header row names the members.
 *
 * An empty cell is an absent member. A cell becomes a string, but for the members that are numbers
 * (when the cell is one) and those that hold objects or arrays (when the cell is valid JSON).
 * Anything the column's member does not take is thus refused by the decoder in its own words.
 */
#include "core/event/split.h"

#include <stdlib.h>

#include "core/base/json.h"

enum place {
    AT_TOP, /* nothing has been read but, perhaps, a byte order mark */
    CELL_START,
    CELL_PLAIN,
    CELL_QUOTED,
    CELL_QUOTE, /* a quote in a quoted cell: its end, or the first of two */
};

enum column_kind {
    COLUMN_TEXT,
    COLUMN_NUMBER,
    COLUMN_JSON,
};

enum {
    MARK_LEN = 3,
    NAME_MAX_BYTES = 255,
    DEPTH_MAX = 63, /* the row's object is one more */
};

static const char BYTE_ORDER_MARK[] = "\xEF\xBB\xBF";

static enum split_step
bad(struct splitter *splitter, const char *text)
{
    return split_fail(splitter, SPLIT_BAD, "validation_error", text);
}

static enum split_step
broken(struct splitter *splitter, const char *text)
{
    return split_fail(splitter, SPLIT_BROKEN, "validation_error", text);
}

void
split_csv_fini(struct splitter *splitter)
{
    struct split_csv *csv = &splitter->csv;

    free(csv->columns);
    buffer_free(&csv->names);
    buffer_free(&csv->cell);
    buffer_free(&csv->json);
    csv->columns = NULL;
    csv->column_count = 0;
    csv->column_capacity = 0;
}

/* ---- rows ---- */

/* Steps behind the row's line end; false when that has not come. */
static bool
skip_row(struct splitter *splitter)
{
    struct split_csv *csv = &splitter->csv;

    while (splitter->at < splitter->end) {
        const char c = *splitter->at++;

        if (csv->place == AT_TOP) {
            if (c == BYTE_ORDER_MARK[csv->mark]) {
                csv->mark++;
                csv->place = csv->mark == MARK_LEN ? CELL_START : AT_TOP;
                continue;
            }
            csv->place = csv->mark == 0 ? CELL_START : CELL_PLAIN;
        }
        switch ((enum place)csv->place) {
        case AT_TOP:
            break; /* left above */
        case CELL_QUOTED:
            csv->place = c == '"' ? CELL_QUOTE : CELL_QUOTED;
            break;
        case CELL_START:
        case CELL_PLAIN:
        case CELL_QUOTE:
            if (c == '\n') {
                csv->place = CELL_START;
                return true;
            }
            if (c == ',') {
                csv->place = CELL_START;
            } else if (c == '"' && csv->place != CELL_PLAIN) {
                csv->place = CELL_QUOTED;
            } else {
                csv->place = CELL_PLAIN;
            }
            break;
        }
    }
    return false;
}

/* A quoted cell's content, from behind its opening quote; *AT ends behind the closing one. */
static bool
unquote(struct split_csv *csv, const char **at, const char *end, struct span *cell)
{
    const char *start = *at;
    const char *quote = start < end ? memchr(start, '"', (size_t)(end - start)) : NULL;

    if (quote == NULL) {
        return false;
    }
    *cell = (struct span){start, (size_t)(quote - start)};
    if (quote + 1 == end || quote[1] != '"') {
        *at = quote + 1;
        return true;
    }
    buffer_clear(&csv->cell, SIZE_MAX);
    while (quote != NULL && quote + 1 < end && quote[1] == '"') {
        buffer_append(&csv->cell, start, (size_t)(quote + 1 - start));
        start = quote + 2;
        quote = start < end ? memchr(start, '"', (size_t)(end - start)) : NULL;
    }
    if (quote == NULL) {
        return false;
    }
    buffer_append(&csv->cell, start, (size_t)(quote - start));
    *cell = buffer_span(&csv->cell);
    *at = quote + 1;
    return true;
}

/* Where a walk over a row's cells stands; a row has at least one. */
struct cells {
    const char *at;
    const char *end;
    bool done; /* the last cell has been read */
};

/* Reads the next cell. Returns NULL or what is wrong. */
static const char *
take_cell(struct split_csv *csv, struct cells *cells, struct span *cell)
{
    const char *start = cells->at;
    const char *comma;

    if (start < cells->end && *start == '"') {
        cells->at++;
        if (!unquote(csv, &cells->at, cells->end, cell)) {
            return "a quoted cell is not closed";
        }
        if (cells->at < cells->end && *cells->at != ',') {
            return "something follows the closing quote of a cell";
        }
    } else {
        comma = start < cells->end ? memchr(start, ',', (size_t)(cells->end - start)) : NULL;
        cells->at = comma == NULL ? cells->end : comma;
        *cell = (struct span){start, (size_t)(cells->at - start)};
        if (cell->len > 0 && memchr(start, '"', cell->len) != NULL) {
            return "a quote in a cell that does not begin with one";
        }
    }
    cells->done = cells->at == cells->end;
    cells->at += cells->done ? 0 : 1;
    return NULL;
}

/* ---- the header row ---- */

static enum column_kind
kind_of(struct span name)
{
    static const struct {
        const char *name;
        enum column_kind kind;
    } KINDS[] = {
        {"status", COLUMN_NUMBER},   {"latency_ms", COLUMN_NUMBER}, {"timestamp", COLUMN_NUMBER},
        {"properties", COLUMN_JSON}, {"payload", COLUMN_JSON},      {"metadata", COLUMN_JSON},
        {"tags", COLUMN_JSON},
    };

    for (size_t i = 0; i < ARRAY_LEN(KINDS); i++) {
        if (span_is(name, KINDS[i].name)) {
            return KINDS[i].kind;
        }
    }
    return COLUMN_TEXT;
}

static bool
add_column(struct split_csv *csv, struct span name)
{
    struct split_column *column;

    if (csv->column_count == csv->column_capacity) {
        const size_t capacity = csv->column_capacity == 0 ? 16 : 2 * csv->column_capacity;
        struct split_column *columns = realloc(csv->columns, capacity * sizeof(*columns));

        if (columns == NULL) {
            return false;
        }
        csv->columns = columns;
        csv->column_capacity = capacity;
    }
    column = &csv->columns[csv->column_count++];
    column->kind = (int)kind_of(name);
    column->at = csv->names.len;
    buffer_append_json_string(&csv->names, name);
    buffer_append_char(&csv->names, ':');
    column->len = csv->names.len - column->at;
    return !csv->names.failed;
}

/* Two columns of one name, and bytes that are not UTF-8, are found as in any other object. */
static enum split_step
check_names(struct splitter *splitter)
{
    struct split_csv *csv = &splitter->csv;
    struct json_text text;
    struct json_error error;
    enum err err;

    buffer_clear(&csv->json, SIZE_MAX);
    buffer_append_char(&csv->json, '{');
    for (size_t i = 0; i < csv->column_count; i++) {
        buffer_append(&csv->json, csv->names.data + csv->columns[i].at, csv->columns[i].len);
        buffer_append_text(&csv->json, i + 1 < csv->column_count ? "0," : "0}");
    }
    if (csv->json.failed) {
        return SPLIT_NO_MEMORY;
    }
    err = json_scan(buffer_span(&csv->json), DEPTH_MAX, &text, &error);
    if (err == ERR_NO_MEMORY) {
        return SPLIT_NO_MEMORY;
    }
    if (err != ERR_OK) {
        return broken(splitter, "the header row must name each column once, in valid UTF-8");
    }
    return SPLIT_MORE;
}

/* SPLIT_MORE: the columns are known. */
static enum split_step
read_header(struct splitter *splitter, struct span row)
{
    struct split_csv *csv = &splitter->csv;
    const size_t skip = csv->mark == MARK_LEN ? MARK_LEN : 0;
    struct cells cells = {row.data + skip, row.data + row.len, false};

    while (!cells.done) {
        struct span name;
        const char *why = take_cell(csv, &cells, &name);

        if (csv->cell.failed) {
            return SPLIT_NO_MEMORY;
        }
        if (why != NULL) {
            return broken(splitter, why);
        }
        if (name.len == 0 || name.len > NAME_MAX_BYTES) {
            return broken(splitter, "a column name must be 1 to 255 bytes");
        }
        if (!add_column(csv, name)) {
            return SPLIT_NO_MEMORY;
        }
    }
    csv->named = true;
    return check_names(splitter);
}

/* ---- rows as objects ---- */

/* The cell is itself the value that a column of KIND holds. */
static bool
is_plain_value(struct split_csv *csv, enum column_kind kind, struct span cell)
{
    struct json_text text;
    struct json_error error;
    enum err err = json_scan(cell, DEPTH_MAX, &text, &error);

    if (err != ERR_OK) {
        csv->json.failed = csv->json.failed || err == ERR_NO_MEMORY;
        return false;
    }
    if (kind == COLUMN_NUMBER) {
        return text.value.type == JSON_NUMBER;
    }
    return text.value.type == JSON_OBJECT || text.value.type == JSON_ARRAY;
}

static void
write_member(struct split_csv *csv, const struct split_column *column, struct span cell)
{
    struct buffer *json = &csv->json;

    buffer_append_char(json, json->len == 0 ? '{' : ',');
    buffer_append(json, csv->names.data + column->at, column->len);
    if (column->kind != COLUMN_TEXT && is_plain_value(csv, (enum column_kind)column->kind, cell)) {
        buffer_append_span(json, cell);
    } else {
        buffer_append_json_string(json, cell);
    }
}

static enum split_step
write_row(struct splitter *splitter, struct span row, struct span *out)
{
    struct split_csv *csv = &splitter->csv;
    struct cells cells = {row.data, row.data + row.len, false};
    size_t count = 0;

    buffer_clear(&csv->json, SIZE_MAX);
    for (; !cells.done && count < csv->column_count; count++) {
        struct span cell;
        const char *why = take_cell(csv, &cells, &cell);

        if (csv->cell.failed) {
            return SPLIT_NO_MEMORY;
        }
        if (why != NULL) {
            return bad(splitter, why);
        }
        if (cell.len > 0) {
            write_member(csv, &csv->columns[count], cell);
        }
        if (csv->json.len > splitter->element_bytes_max) {
            return split_fail(splitter, SPLIT_BAD, "body_too_large",
                              "the event is larger than MAX_EVENT_BYTES");
        }
    }
    if (!cells.done || count < csv->column_count) {
        return bad(splitter, "a row must have as many cells as the header row");
    }
    if (csv->json.failed) {
        return SPLIT_NO_MEMORY;
    }
    if (csv->json.len == 0) {
        return bad(splitter, "every cell of the row is empty");
    }
    buffer_append_char(&csv->json, '}');
    if (csv->json.failed) {
        return SPLIT_NO_MEMORY;
    }
    *out = buffer_span(&csv->json);
    return SPLIT_ELEMENT;
}

/* SPLIT_MORE: the row was no element. */
static enum split_step
take_row(struct splitter *splitter, const char *from, const char *to, struct span *out)
{
    struct split_csv *csv = &splitter->csv;
    struct span row;
    enum split_step step = split_take(splitter, from, to, &row);

    if (step == SPLIT_BAD && !csv->named) {
        return broken(splitter, "the header row is too long");
    }
    if (step != SPLIT_ELEMENT) {
        return step;
    }
    if (row.len > 0 && row.data[row.len - 1] == '\r') {
        row.len--;
    }
    if (row.len == 0) {
        return SPLIT_MORE;
    }
    return csv->named ? write_row(splitter, row, out) : read_header(splitter, row);
}

enum split_step
split_csv_next(struct splitter *splitter, struct span *out)
{
    struct split_csv *csv = &splitter->csv;
    enum split_step step = SPLIT_MORE;

    while (step == SPLIT_MORE) {
        const char *start = splitter->at;
        const char *row_end;

        if (skip_row(splitter)) {
            row_end = splitter->at - 1;
        } else if (!splitter->ended) {
            return start == splitter->end ? SPLIT_MORE : split_hold(splitter, start);
        } else if (start == splitter->end && !split_is_holding(splitter)) {
            return SPLIT_DONE;
        } else if (csv->place == CELL_QUOTED) {
            return broken(splitter, "a quoted cell is not closed");
        } else {
            row_end = splitter->end;
        }
        step = take_row(splitter, start, row_end, out);
        if (step == SPLIT_MORE && splitter->given) {
            splitter->given = false;
            buffer_clear(&splitter->held, SIZE_MAX);
        }
    }
    return step;
}
