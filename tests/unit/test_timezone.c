/* Time zones, against Python's zoneinfo (another reader of the same tzdata) and hostile files. */
#include "core/base/timezone.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/buffer.h"
#include "core/base/timestamp.h"

/*
 * One line per question: zone, instant, seconds east of UTC. Random instants of every zone, and the
 * last second before and the first one of each change in some years of it.
 */
static const char ORACLE[] =
    "python3 -c '\n"
    "import random, zoneinfo\n"
    "from datetime import datetime, timedelta, timezone\n"
    "start = datetime(1970, 1, 1, tzinfo=timezone.utc)\n"
    "seed = random.randrange(10**9)\n"
    "rng = random.Random(seed)\n"
    "def offset(zone, t):\n"
    "    return int((start + timedelta(seconds=t)).astimezone(zone).utcoffset().total_seconds())\n"
    "print(\"seed\", seed, 0)\n"
    "for name in sorted(zoneinfo.available_timezones()):\n"
    "    zone = zoneinfo.ZoneInfo(name)\n"
    "    asked = [rng.randrange(-2500000000, 8000000000) for _ in range(15)]\n"
    "    for year in (rng.randrange(1900, 2037), rng.randrange(1975, 2026), rng.randrange(2037, "
    "2200)):\n"
    "        days = [int((datetime(year, 1, 1, tzinfo=timezone.utc) - start).total_seconds()) + d "
    "* 86400\n"
    "                for d in range(0, 367, 3)]\n"
    "        for low, high in zip(days, days[1:]):\n"
    "            before = offset(zone, low)\n"
    "            if before != offset(zone, high):\n"
    "                while high - low > 1:\n"
    "                    middle = (low + high) // 2\n"
    "                    if offset(zone, middle) == before:\n"
    "                        low = middle\n"
    "                    else:\n"
    "                        high = middle\n"
    "                asked += [low, high]\n"
    "    for t in asked:\n"
    "        print(name, t, offset(zone, t))\n"
    "'";

static struct time_zone *
load(const char *name)
{
    struct time_zone *zone = NULL;

    if (timezone_load(TIMEZONE_DIR, span_of(name), &zone) != ERR_OK) {
        fail_msg("%s cannot be read", name);
    }
    return zone;
}

static void
every_zone_is_where_python_says_it_is(void **state)
{
    FILE *oracle = popen(ORACLE, "r"); /* NOLINT(cert-env33-c): a text of our own */
    char name[80];
    char last_name[80] = "";
    long long utc_s;
    long long last_s = 0;
    int64_t last_until_s = 0;
    int want_s;
    int last_want_s = 0;
    struct time_zone *zone = NULL;
    size_t zones = 0;
    size_t changes = 0;
    size_t lines = 0;

    (void)state;
    assert_non_null(oracle);
    while (fscanf(oracle, "%79s %lld %d", name, &utc_s, &want_s) == 3) {
        int64_t until_s;

        if (strcmp(name, "seed") == 0) {
            print_message("seed %lld\n", utc_s);
            continue;
        }
        if (strcmp(name, last_name) != 0) {
            timezone_free(zone);
            zone = load(name);
            zones++;
        } else if (utc_s == last_s + 1 && want_s != last_want_s) {
            changes++;
            if (last_until_s != utc_s) {
                fail_msg("%s: the change at %lld was said to be at %lld", name, utc_s,
                         (long long)last_until_s);
            }
        }
        if (timezone_offset_s(zone, utc_s, &until_s) != want_s) {
            fail_msg("%s at %lld: Python says %d", name, utc_s, want_s);
        }
        assert_true(until_s > utc_s);
        (void)snprintf(last_name, sizeof(last_name), "%s", name);
        last_s = utc_s;
        last_want_s = want_s;
        last_until_s = until_s;
        lines++;
    }
    timezone_free(zone);
    assert_int_equal(pclose(oracle), 0);
    print_message("%zu zones, %zu instants, %zu changes\n", zones, lines, changes);
    assert_true(zones > 400);
    assert_true(changes > 300);
}

static void
assert_offset(const char *name, const char *when, int32_t want_s)
{
    struct time_zone *zone = load(name);
    int64_t until_s;
    int64_t us;

    assert_int_equal(timestamp_parse(span_of(when), &us), ERR_OK);
    if (timezone_offset_s(zone, us / 1000000, &until_s) != want_s) {
        fail_msg("%s at %s is not %d", name, when, want_s);
    }
    timezone_free(zone);
}

static void
odd_zones_and_far_years_are_right(void **state)
{
    (void)state;
    assert_offset("UTC", "2026-07-01T00:00:00Z", 0);
    assert_offset("Asia/Kolkata", "2026-07-01T00:00:00Z", 19800);
    assert_offset("Asia/Kathmandu", "2026-07-01T00:00:00Z", 20700);
    assert_offset("Pacific/Chatham", "2026-07-01T00:00:00Z", 45900);
    /* Daylight saving of half an hour, and the year's turn within it. */
    assert_offset("Australia/Lord_Howe", "2026-01-01T00:00:00Z", 39600);
    assert_offset("Australia/Lord_Howe", "2026-04-04T14:59:59Z", 39600);
    assert_offset("Australia/Lord_Howe", "2026-04-04T15:00:00Z", 37800);
    /* Beyond every table: by the rule. */
    assert_offset("Europe/Berlin", "2040-03-25T00:59:59Z", 3600);
    assert_offset("Europe/Berlin", "2040-03-25T01:00:00Z", 7200);
    assert_offset("Europe/Berlin", "9999-07-01T00:00:00Z", 7200);
    assert_offset("America/New_York", "2400-12-31T23:59:59Z", -18000);
    assert_offset("Asia/Jerusalem", "2100-07-01T00:00:00Z", 10800);
    assert_offset("America/Nuuk", "2045-07-01T00:00:00Z", -3600);
    /* Before every table. */
    assert_offset("Europe/Berlin", "0001-01-01T00:00:00Z", 3208);
}

static void
what_is_no_zone_is_not_found(void **state)
{
    static const char *const NAMES[] = {"",
                                        "/",
                                        "Europe",
                                        "Europe/",
                                        "/Europe/Berlin",
                                        "Europe//Berlin",
                                        "../zoneinfo/Europe/Berlin",
                                        "Europe/../UTC",
                                        "./UTC",
                                        "Mars/Base",
                                        "Europe/Berlin.",
                                        "..",
                                        "zone.tab",
                                        "tzdata.zi",
                                        "-05",
                                        "utc ",
                                        "Europe\\Berlin",
                                        "Europe/Berlin/x",
                                        "a b",
                                        "\xc3\xa9"};
    char long_name[200];
    struct time_zone *zone = NULL;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(NAMES); i++) {
        if (timezone_load(TIMEZONE_DIR, span_of(NAMES[i]), &zone) != ERR_NOT_FOUND) {
            fail_msg("'%s' was taken", NAMES[i]);
        }
    }
    memset(long_name, 'a', sizeof(long_name));
    assert_int_equal(timezone_load(TIMEZONE_DIR, (struct span){long_name, 65}, &zone),
                     ERR_NOT_FOUND);
    assert_int_equal(timezone_load(TIMEZONE_DIR, (struct span){"UTC\0x", 5}, &zone), ERR_NOT_FOUND);
    /* A zone that counts leap seconds. */
    if (access(TIMEZONE_DIR "/right/UTC", R_OK) == 0) {
        assert_int_equal(timezone_load(TIMEZONE_DIR, span_of("right/UTC"), &zone), ERR_CORRUPT);
    }
}

static void
write_file(const char *path, struct span bytes)
{
    FILE *file = fopen(path, "wb");

    assert_non_null(file);
    assert_int_equal(fwrite(bytes.data, 1, bytes.len, file), bytes.len);
    assert_int_equal(fclose(file), 0);
}

static void
a_file_that_is_no_zone_is_corrupt(void **state)
{
    char dir[] = "/tmp/sluice-zones-XXXXXX";
    char path[64];
    char *large = calloc(1, TIMEZONE_BYTES_MAX + 1);
    struct time_zone *zone = NULL;

    (void)state;
    assert_non_null(large);
    assert_non_null(mkdtemp(dir));
    (void)snprintf(path, sizeof(path), "%s/Zone", dir);
    write_file(path, SPAN_LITERAL("no zone"));
    assert_int_equal(timezone_load(dir, span_of("Zone"), &zone), ERR_CORRUPT);
    write_file(path, SPAN_LITERAL(""));
    assert_int_equal(timezone_load(dir, span_of("Zone"), &zone), ERR_CORRUPT);
    write_file(path, (struct span){large, TIMEZONE_BYTES_MAX + 1});
    assert_int_equal(timezone_load(dir, span_of("Zone"), &zone), ERR_CORRUPT);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0); /* must not block */
    assert_int_equal(timezone_load(dir, span_of("Zone"), &zone), ERR_NOT_FOUND);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(dir), 0);
    free(large);
}

/* ---- files made by hand ---- */

struct file {
    const char *version;
    const char *footer; /* with its newlines */
    uint32_t types;
    uint32_t leaps;
    uint32_t isstd;
    const char *times; /* 8 bytes each, then the types */
    uint32_t time_count;
    const char *type; /* the first one */
};

static void
put_be32(struct buffer *out, uint32_t value)
{
    for (int shift = 24; shift >= 0; shift -= 8) {
        buffer_append_char(out, (char)(value >> shift & 0xff));
    }
}

static void
put_header(struct buffer *out, const struct file *file, uint32_t times)
{
    buffer_append_text(out, "TZif");
    buffer_append(out, file->version, 1);
    for (int i = 0; i < 15; i++) {
        buffer_append_char(out, 0);
    }
    put_be32(out, 0);
    put_be32(out, file->isstd);
    put_be32(out, file->leaps);
    put_be32(out, times);
    put_be32(out, file->types);
    put_be32(out, 4);
}

static void
put_types(struct buffer *out, const struct file *file)
{
    for (uint32_t i = 0; i < file->types; i++) {
        buffer_append(out, i == 0 ? file->type : "\0\0\x0e\x10\1\0", 6);
    }
    buffer_append(out, "ABC\0", 4);
    for (uint32_t i = 0; i < file->isstd; i++) {
        buffer_append_char(out, 0);
    }
}

static enum err
parse(const struct file *file, struct time_zone **out)
{
    struct buffer bytes = BUFFER_EMPTY;
    enum err err;

    put_header(&bytes, file, 0);
    put_types(&bytes, file);
    put_header(&bytes, file, file->time_count);
    buffer_append(&bytes, file->times, (size_t)file->time_count * 9);
    put_types(&bytes, file);
    buffer_append_text(&bytes, file->footer);
    assert_false(bytes.failed);
    err = timezone_parse(buffer_span(&bytes), out);
    buffer_free(&bytes);
    return err;
}

static const struct file GOOD = {"2", "\nABC-1\n", 2, 0, 2, "", 0, "\0\0\0\0\0\0"};

static void
files_by_hand_are_taken_only_whole_and_sound(void **state)
{
    struct time_zone *zone = NULL;
    struct file file;

    (void)state;
    assert_int_equal(parse(&GOOD, &zone), ERR_OK);
    timezone_free(zone);
#define REFUSES(change)                                                                            \
    do {                                                                                           \
        file = GOOD;                                                                               \
        change;                                                                                    \
        assert_int_equal(parse(&file, &zone), ERR_CORRUPT);                                        \
    } while (0)
    REFUSES(file.version = "\0");
    REFUSES(file.version = "1");
    REFUSES(file.types = 0; file.isstd = 0);
    REFUSES(file.types = 257; file.isstd = 0);
    REFUSES(file.leaps = 1);
    REFUSES(file.isstd = 1);
    REFUSES(file.footer = "");
    REFUSES(file.footer = "\n");
    REFUSES(file.footer = "\nABC-1");
    REFUSES(file.footer = "\nABC-1\n\n");
    REFUSES(file.type = "\0\0\0\0\2\0");         /* neither daylight saving nor not */
    REFUSES(file.type = "\0\0\0\0\0\4");         /* a designation beyond the end */
    REFUSES(file.type = "\0\1\x6d\xa0\0\0");     /* 26 hours */
    REFUSES(file.type = "\xff\xfe\xa0\x70\0\0"); /* -25 hours */
    REFUSES(file.time_count = 1; file.times = "\0\0\0\0\0\0\0\1\2"); /* a type that is not there */
    REFUSES(file.time_count = 2;
            file.times = "\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\1\1\0"); /* not later */
#undef REFUSES
}

static void
rules_are_taken_only_as_posix_writes_them(void **state)
{
    static const struct {
        const char *footer;
        const char *version;
        bool good;
    } ROWS[] = {
        {"\n\n", "2", true},
        {"\nABC-1\n", "2", true},
        {"\nABC+24:59:59\n", "2", true},
        {"\n<+0530>-5:30\n", "2", true},
        {"\nEST5EDT,M3.2.0,M11.1.0\n", "2", true},
        {"\nEST5EDT4,J60/2:30,364/24\n", "2", true},
        {"\nIST-2IDT,M3.4.4/26,M10.5.0\n", "3", true},
        {"\n<-02>2<-01>,M3.5.0/-1,M10.5.0/0\n", "3", true},
        {"\nIST-2IDT,M3.4.4/26,M10.5.0\n", "2", false},
        {"\n<-02>2<-01>,M3.5.0/-1,M10.5.0/0\n", "2", false},
        {"\nAB-1\n", "2", false},
        {"\nABC\n", "2", false},
        {"\nABC25\n", "2", false},
        {"\nABC1:60\n", "2", false},
        {"\n<AB1\n", "2", false},
        {"\nEST5EDT\n", "2", false}, /* but when? */
        {"\nEST5EDT,M3.2.0\n", "2", false},
        {"\nEST5EDT,M3.2.0,M13.1.0\n", "2", false},
        {"\nEST5EDT,M3.6.0,M11.1.0\n", "2", false},
        {"\nEST5EDT,M3.2.7,M11.1.0\n", "2", false},
        {"\nEST5EDT,J0,M11.1.0\n", "2", false},
        {"\nEST5EDT,J366,M11.1.0\n", "2", false},
        {"\nEST5EDT,366,M11.1.0\n", "2", false},
        {"\nEST5EDT,M3.2.0,M11.1.0/168\n", "3", false},
        {"\nEST5EDT,M3.2.0,M11.1.0,\n", "2", false},
        {"\nEST5 \n", "2", false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(ROWS); i++) {
        struct file file = GOOD;
        struct time_zone *zone = NULL;
        enum err err;

        file.footer = ROWS[i].footer;
        file.version = ROWS[i].version;
        err = parse(&file, &zone);
        if (err != (ROWS[i].good ? ERR_OK : ERR_CORRUPT)) {
            fail_msg("version %s: %s", ROWS[i].version, ROWS[i].footer);
        }
        if (err == ERR_OK) {
            timezone_free(zone);
        }
    }
}

static void
assert_rule(const char *footer, const char *when, int32_t want_s)
{
    struct file file = GOOD;
    struct time_zone *zone = NULL;
    int64_t until_s;
    int64_t us;

    file.footer = footer;
    file.version = "3";
    assert_int_equal(parse(&file, &zone), ERR_OK);
    assert_int_equal(timestamp_parse(span_of(when), &us), ERR_OK);
    if (timezone_offset_s(zone, us / 1000000, &until_s) != want_s) {
        fail_msg("%s at %s is not %d", footer, when, want_s);
    }
    timezone_free(zone);
}

static void
rules_no_zone_of_today_uses_are_right_too(void **state)
{
    (void)state;
    /* RFC 8536: daylight saving all year long. */
    assert_rule("\nEST5EDT,0/0,J365/25\n", "2026-01-01T04:59:59Z", -14400);
    assert_rule("\nEST5EDT,0/0,J365/25\n", "2026-01-01T05:00:00Z", -14400);
    assert_rule("\nEST5EDT,0/0,J365/25\n", "2028-12-31T23:00:00Z", -14400);
    /* J60 is 1 March in every year, 59 is 29 February in a leap year. */
    assert_rule("\nABC0DEF,J60/0,J300/0\n", "2027-02-28T23:59:59Z", 0);
    assert_rule("\nABC0DEF,J60/0,J300/0\n", "2027-03-01T00:00:00Z", 3600);
    assert_rule("\nABC0DEF,J60/0,J300/0\n", "2028-02-29T23:59:59Z", 0);
    assert_rule("\nABC0DEF,J60/0,J300/0\n", "2028-03-01T00:00:00Z", 3600);
    assert_rule("\nABC0DEF,59/0,300/0\n", "2027-03-01T00:00:00Z", 3600);
    assert_rule("\nABC0DEF,59/0,300/0\n", "2028-02-28T23:59:59Z", 0);
    assert_rule("\nABC0DEF,59/0,300/0\n", "2028-02-29T00:00:00Z", 3600);
    /* The end of the known years: neighbours are looked at that are none of them. */
    assert_rule("\nABC-1DEF,M3.5.0,M10.5.0/3\n", "0001-01-01T00:00:00Z", 3600);
    assert_rule("\nABC12DEF,J1/-167,J365/167\n", "9999-12-31T23:59:59Z", -39600);
    assert_rule("\n<-AB>-24:59:59\n", "9999-12-31T23:59:59Z", 89999);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_zone_is_where_python_says_it_is),
        cmocka_unit_test(odd_zones_and_far_years_are_right),
        cmocka_unit_test(what_is_no_zone_is_not_found),
        cmocka_unit_test(a_file_that_is_no_zone_is_corrupt),
        cmocka_unit_test(files_by_hand_are_taken_only_whole_and_sound),
        cmocka_unit_test(rules_are_taken_only_as_posix_writes_them),
        cmocka_unit_test(rules_no_zone_of_today_uses_are_right_too),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
