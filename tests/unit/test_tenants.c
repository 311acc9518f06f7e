/*
 * test_tenants.c - pairs in all forms, what is refused and how it is told, lookups, and reloads
 * while others look things up.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/tenants.h"
#include "tests/fakes/fake_clock.h"
#include "tests/unit/failing_alloc.h"

static struct fake_clock fake;
static struct tenants *tenants;
static struct buffer problem;
static char dir[64];
static char path[128];

static int
setup(void **state)
{
    const char *base = getenv("TMPDIR");

    (void)state;
    fake_clock_init(&fake, 0);
    tenants = NULL;
    problem = BUFFER_EMPTY;
    (void)snprintf(dir, sizeof(dir), "%.40s/tenants-XXXXXX", base == NULL ? "/tmp" : base);
    assert_non_null(mkdtemp(dir));
    (void)snprintf(path, sizeof(path), "%s/keys", dir);
    return 0;
}

static int
teardown(void **state)
{
    (void)state;
    tenants_free(tenants);
    buffer_free(&problem);
    (void)unlink(path);
    (void)rmdir(dir);
    return 0;
}

static void
write_bytes(const char *bytes, size_t len)
{
    FILE *file = fopen(path, "we");

    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
}

static void
write_file(const char *text)
{
    write_bytes(text, strlen(text));
}

static enum err
open_all(const char *keys, const char *file, const char *admin)
{
    const struct tenants_config config = {.keys = keys,
                                          .keys_file = file,
                                          .admin_key = admin,
                                          .rate = 0.001,
                                          .burst = 10,
                                          .clock = &fake.port};

    tenants_free(tenants);
    tenants = NULL;
    buffer_clear(&problem, SIZE_MAX);
    return tenants_open(&tenants, &config, &problem);
}

static enum err
open_keys(const char *keys)
{
    return open_all(keys, NULL, NULL);
}

static enum err
open_file(const char *text)
{
    write_file(text);
    return open_all(NULL, path, NULL);
}

static void
assert_problem(enum err err, const char *text)
{
    assert_int_equal(err, ERR_INVALID);
    buffer_append_char(&problem, '\0');
    if (strstr(problem.data, text) == NULL) {
        fail_msg("'%s' does not tell of '%s'", problem.data, text);
    }
    assert_null(strstr(problem.data, "secret"));
}

/* The tenant of KEY, "" for nobody's, "(admin)" for the admin's; valid until the next call. */
static const char *
owner_of(const char *key)
{
    static char name[300];
    struct tenant *tenant = NULL;

    switch (tenants_find(tenants, 0, span_of(key), &tenant)) {
    case KEY_OF_TENANT:
        (void)snprintf(name, sizeof(name), "%.*s", (int)tenant->name.len, tenant->name.data);
        return name;
    case KEY_OF_ADMIN:
        return "(admin)";
    case KEY_OF_NOBODY:
        break;
    }
    assert_null(tenant);
    return "";
}

static uint32_t
key_count(void)
{
    struct tenants_stats stats;

    tenants_stats(tenants, &stats);
    return stats.keys;
}

/* ---- forms ---- */

static void
without_keys_there_is_one_tenant_for_everybody(void **state)
{
    (void)state;
    assert_int_equal(open_all(NULL, "", ""), ERR_OK);
    assert_false(tenants_have_keys(tenants));
    assert_false(tenants_have_admin(tenants));
    assert_true(span_is(tenants_default(tenants)->name, "default"));
    assert_int_equal(tenants_default(tenants)->bucket.burst, 10);
    assert_string_equal(owner_of("anything"), "");
    assert_int_equal(key_count(), 0);
    assert_int_equal(tenants_reload(tenants, &problem), ERR_OK);
}

static void
each_key_stands_for_its_tenant(void **state)
{
    struct tenants_stats stats;

    (void)state;
    assert_int_equal(open_keys("t1:k1,t2:k2,t1:k3"), ERR_OK);
    assert_true(tenants_have_keys(tenants));
    assert_string_equal(owner_of("k1"), "t1");
    assert_string_equal(owner_of("k2"), "t2");
    assert_string_equal(owner_of("k3"), "t1");
    assert_string_equal(owner_of("k4"), "");
    assert_string_equal(owner_of("K1"), "");
    assert_string_equal(owner_of("k"), "");
    assert_string_equal(owner_of("k11"), "");
    assert_string_equal(owner_of(""), "");
    assert_string_equal(owner_of("t1:k1"), "");
    tenants_stats(tenants, &stats);
    assert_int_equal(stats.keys, 3);
    assert_int_equal(stats.tenants, 2);
}

static void
blanks_and_empty_pairs_do_not_count(void **state)
{
    (void)state;
    assert_int_equal(open_keys(" ,\t t1 : k1 ,, t2:k2\r\n,\n"), ERR_OK);
    assert_int_equal(key_count(), 2);
    assert_string_equal(owner_of("k1"), "t1");
    assert_string_equal(owner_of("k2"), "t2");
}

static void
a_key_may_hold_colons_and_signs(void **state)
{
    (void)state;
    assert_int_equal(open_keys("t:a:b:c,u:#x#y,v:~!\"$%&/()=?"), ERR_OK);
    assert_string_equal(owner_of("a:b:c"), "t");
    assert_string_equal(owner_of("#x#y"), "u");
    assert_string_equal(owner_of("~!\"$%&/()=?"), "v");
}

static void
a_pair_given_twice_is_one_key(void **state)
{
    (void)state;
    write_file("t:k\nt:k");
    assert_int_equal(open_all("t:k,t:k", path, NULL), ERR_OK);
    assert_int_equal(key_count(), 1);
}

static void
a_file_has_lines_commas_and_comments(void **state)
{
    (void)state;
    assert_int_equal(open_file("# all of them\r\n"
                               "t1:k1\r\n"
                               "\n"
                               "  t2 : k2 # of t2, and:this is no pair\n"
                               "t3:k3,t4:k#4,\n"
                               "\t#t5:k5\n"
                               "t6:k6"),
                     ERR_OK);
    assert_int_equal(key_count(), 5);
    assert_string_equal(owner_of("k1"), "t1");
    assert_string_equal(owner_of("k2"), "t2");
    assert_string_equal(owner_of("k3"), "t3");
    assert_string_equal(owner_of("k#4"), "t4");
    assert_string_equal(owner_of("k5"), "");
    assert_string_equal(owner_of("k6"), "t6");
}

static void
the_variable_and_the_file_add_up(void **state)
{
    (void)state;
    write_file("t2:k2");
    assert_int_equal(open_all("t1:k1", path, NULL), ERR_OK);
    assert_string_equal(owner_of("k1"), "t1");
    assert_string_equal(owner_of("k2"), "t2");
}

static void
a_digest_stands_for_its_key_and_is_none_itself(void **state)
{
    /* FIPS 180-4's first example: the digest of "abc". */
    static const char HEX[] = "BA7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    char text[200];

    (void)state;
    (void)snprintf(text, sizeof(text), "t1:sha256:%s\n", HEX);
    assert_int_equal(open_file(text), ERR_OK);
    assert_string_equal(owner_of("abc"), "t1");
    assert_string_equal(owner_of(HEX), "");
    (void)snprintf(text, sizeof(text), "sha256:%s", HEX);
    assert_string_equal(owner_of(text), "");
    assert_int_equal(open_all("t:k", NULL, text), ERR_OK);
    assert_string_equal(owner_of("abc"), "(admin)");
}

static void
the_longest_names_and_keys_are_taken_and_longer_ones_are_not(void **state)
{
    char longest[256];
    char text[600];

    (void)state;
    memset(longest, 'x', sizeof(longest));
    longest[255] = '\0';
    (void)snprintf(text, sizeof(text), "%s:%s", longest, longest);
    assert_int_equal(open_keys(text), ERR_OK);
    assert_string_equal(owner_of(longest), longest);
    (void)snprintf(text, sizeof(text), "%sx:k", longest);
    assert_problem(open_keys(text), "the tenant is not 1 to 255 visible characters");
    (void)snprintf(text, sizeof(text), "t:%sx", longest);
    assert_problem(open_keys(text), "the key is not 1 to 255 visible characters");
    (void)snprintf(text, sizeof(text), "%sx", longest);
    assert_int_equal(open_keys("t:k"), ERR_OK);
    assert_string_equal(owner_of(text), "");
}

/* ---- what is refused ---- */

static void
what_is_not_a_pair_is_refused_and_told_without_the_key(void **state)
{
    static const struct {
        const char *text;
        const char *why;
    } ROWS[] = {
        {"secret", "in pair 1 there is no colon"},
        {"t:secret1,secret2", "in pair 2 there is no colon"},
        {"t:", "in pair 1 the key is not"},
        {":secret", "in pair 1 the tenant is not"},
        {":", "the tenant is not"},
        {"t t:secret", "the tenant is not"},
        {"t:sec ret", "the key is not"},
        {"t:secret1\nu:secret2", "the key is not"},
        {"t\x7f:secret", "the tenant is not"},
        {"t\xc3\xa9:secret", "the tenant is not"},
        {"t:secret\xc3\xa9", "the key is not"},
        {"_sluice:secret", "begins with '_', which is reserved"},
        {"t:sha256:secret", "sha256: is not followed by 64 hex digits"},
        {"t:sha256:", "sha256: is not followed by 64 hex digits"},
        {"t:sha256:zz00000000000000000000000000000000000000000000000000000000000000",
         "64 hex digits"},
        {"t:secret,u:secret", "gives one key to two tenants: "},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(ROWS); i++) {
        assert_problem(open_keys(ROWS[i].text), ROWS[i].why);
        assert_non_null(strstr(problem.data, "API_KEYS"));
        assert_null(tenants);
    }
    assert_problem(open_keys("secret"), "API_KEYS must be \"tenant:key,tenant:key\"");
}

static void
a_bad_line_of_the_file_is_named(void **state)
{
    (void)state;
    assert_problem(open_file("t:k\n# x\nsecret\n"), "in line 3 of ");
    assert_non_null(strstr(problem.data, path));
    assert_non_null(strstr(problem.data, "API_KEYS_FILE must hold"));
    write_bytes("t:k\0k", 5);
    assert_problem(open_all(NULL, path, NULL), "in line 1 of ");
    assert_problem(open_file("\xef\xbb\xbft:k"), "the tenant is not");
}

static void
a_file_that_cannot_be_read_is_told(void **state)
{
    (void)state;
    assert_problem(open_all(NULL, path, NULL), "cannot be read");
    assert_problem(open_all(NULL, dir, NULL), "cannot be read");
    assert_int_equal(truncate(path, 0), -1);
    write_file("t:k");
    assert_int_equal(truncate(path, (off_t)200 << 20), 0);
    assert_problem(open_all(NULL, path, NULL), "too large");
}

static void
keys_that_are_asked_for_but_none_are_refused(void **state)
{
    (void)state;
    assert_problem(open_keys(" , "), "API_KEYS holds no key");
    assert_problem(open_file("# nobody yet\n"), "API_KEYS_FILE holds no key");
    assert_problem(open_file(""), "API_KEYS_FILE holds no key");
}

/* ---- the admin ---- */

static void
the_admin_key_is_known_with_and_without_tenants(void **state)
{
    (void)state;
    assert_int_equal(open_all("t:k", NULL, " root \n"), ERR_OK);
    assert_true(tenants_have_admin(tenants));
    assert_string_equal(owner_of("root"), "(admin)");
    assert_string_equal(owner_of("k"), "t");
    assert_string_equal(owner_of("roots"), "");
    assert_int_equal(open_all(NULL, NULL, "root"), ERR_OK);
    assert_false(tenants_have_keys(tenants));
    assert_string_equal(owner_of("root"), "(admin)");
    assert_string_equal(owner_of("k"), "");
}

static void
an_admin_key_that_is_none_or_a_tenant_s_is_refused(void **state)
{
    (void)state;
    assert_problem(open_all("t:k", NULL, "sec ret"), "ADMIN_KEY must be");
    assert_problem(open_all("t:k", NULL, "\n"), "ADMIN_KEY must be");
    assert_problem(open_all("t:secret", NULL, "secret"),
                   "ADMIN_KEY must not be a key of a tenant too (of t)");
    write_file("u:secret");
    assert_problem(open_all("t:k", path, "secret"), "(of u)");
}

/* ---- size ---- */

static void
among_thousands_each_key_finds_its_tenant_and_nothing_else_does(void **state)
{
    enum {
        KEYS = 5000,
        NAMES = 700,
    };
    struct buffer text = BUFFER_EMPTY;
    char key[32];
    char name[32];

    (void)state;
    for (int i = 0; i < KEYS; i++) {
        buffer_printf(&text, "tenant-%d:key-%d\n", i % NAMES, i);
    }
    write_bytes(text.data, text.len);
    buffer_free(&text);
    assert_int_equal(open_all(NULL, path, NULL), ERR_OK);
    assert_int_equal(key_count(), KEYS);
    for (int i = 0; i < KEYS; i++) {
        (void)snprintf(key, sizeof(key), "key-%d", i);
        (void)snprintf(name, sizeof(name), "tenant-%d", i % NAMES);
        assert_string_equal(owner_of(key), name);
        (void)snprintf(key, sizeof(key), "key-%d", KEYS + i);
        assert_string_equal(owner_of(key), "");
    }
}

static void
too_many_keys_or_tenants_are_refused(void **state)
{
    struct buffer text = BUFFER_EMPTY;

    (void)state;
    for (int i = 0; i <= API_KEYS_MAX; i++) {
        buffer_printf(&text, "t:%d\n", i);
    }
    write_bytes(text.data, text.len);
    assert_problem(open_all(NULL, path, NULL), "there are too many keys");
    buffer_clear(&text, SIZE_MAX);
    for (int i = 0; i <= TENANTS_MAX; i++) {
        buffer_printf(&text, "%d:%d\n", i, i);
    }
    write_bytes(text.data, text.len);
    buffer_free(&text);
    assert_problem(open_all(NULL, path, NULL), "there are too many tenants");
}

/* ---- reloads ---- */

static void
a_reload_adds_and_removes_keys(void **state)
{
    struct tenants_stats stats;

    (void)state;
    write_file("t1:k1,t2:k2");
    assert_int_equal(open_all("t0:k0", path, NULL), ERR_OK);
    write_file("t2:k3,t3:k1");
    assert_int_equal(tenants_reload(tenants, &problem), ERR_OK);
    assert_string_equal(owner_of("k0"), "t0");
    assert_string_equal(owner_of("k1"), "t3");
    assert_string_equal(owner_of("k2"), "");
    assert_string_equal(owner_of("k3"), "t2");
    tenants_stats(tenants, &stats);
    assert_int_equal(stats.keys, 3);
    assert_int_equal(stats.tenants, 3);
    assert_int_equal(stats.reloads, 1);
    assert_int_equal(stats.reload_failures, 0);
}

static void
a_reload_that_fails_changes_nothing(void **state)
{
    static const char *const BROKEN[] = {"t2:k2\nsecret\n", "", "t2:k2,t3:k2", "t0:k2,t1:k0",
                                         "t:root"};
    struct tenants_stats stats;

    (void)state;
    write_file("t1:k1");
    assert_int_equal(open_all("t0:k0", path, "root"), ERR_OK);
    for (size_t i = 0; i < ARRAY_LEN(BROKEN); i++) {
        bool allowed = BROKEN[i][0] == '\0'; /* t0's key is left */

        write_file(BROKEN[i]);
        buffer_clear(&problem, SIZE_MAX);
        assert_int_equal(tenants_reload(tenants, &problem), allowed ? ERR_OK : ERR_INVALID);
        assert_string_equal(owner_of("k0"), "t0");
        assert_string_equal(owner_of("k2"), "");
        write_file("t1:k1");
        assert_int_equal(tenants_reload(tenants, &problem), ERR_OK);
    }
    assert_int_equal(unlink(path), 0);
    buffer_clear(&problem, SIZE_MAX);
    assert_problem(tenants_reload(tenants, &problem), "cannot be read");
    assert_string_equal(owner_of("k1"), "t1");
    tenants_stats(tenants, &stats);
    assert_int_equal(stats.reload_failures, ARRAY_LEN(BROKEN));
    assert_int_equal(stats.keys, 2);
}

static void
a_file_that_becomes_empty_does_not_open_the_door(void **state)
{
    (void)state;
    assert_int_equal(open_file("t:k"), ERR_OK);
    write_file("");
    assert_problem(tenants_reload(tenants, &problem), "holds no key");
    assert_true(tenants_have_keys(tenants));
    assert_string_equal(owner_of("k"), "t");
}

static void
a_reload_keeps_the_record_and_its_bucket(void **state)
{
    struct tenant *before;
    struct tenant *after;
    struct token_level level;
    uint64_t wait_s;

    (void)state;
    assert_int_equal(open_file("t:k"), ERR_OK);
    assert_int_equal(tenants_find(tenants, 0, SPAN_LITERAL("k"), &before), KEY_OF_TENANT);
    assert_int_equal(token_bucket_take(&before->bucket, 10, 0, &level, &wait_s), TOKENS_TAKEN);
    write_file("u:k");
    assert_int_equal(tenants_reload(tenants, &problem), ERR_OK);
    assert_true(span_is(before->name, "t")); /* a request may still hold it */
    write_file("t:other");
    assert_int_equal(tenants_reload(tenants, &problem), ERR_OK);
    assert_int_equal(tenants_find(tenants, 0, SPAN_LITERAL("other"), &after), KEY_OF_TENANT);
    assert_ptr_equal(before, after);
    assert_int_equal(token_bucket_take(&after->bucket, 1, 0, &level, &wait_s), TOKENS_LATER);
}

static void
without_memory_nothing_is_half_done(void **state)
{
    bool good = false;

    (void)state;
    if (!FAILING_ALLOC) {
        print_message("the sanitizers bring their own malloc()\n");
        skip();
    }
    write_file("t1:k1\nt2:k2\nt3:k3");
    assert_int_equal(open_all("t0:k0", path, "root"), ERR_OK); /* OpenSSL has what it needs */
    for (long count = 0; !good; count++) {
        enum err err;

        assert_true(count < 200);
        tenants_free(tenants);
        tenants = NULL;
        fail_allocations_after(count);
        err = open_all("t0:k0", path, "root");
        fail_allocations_after(-1);
        good = err == ERR_OK;
        assert_true(good == (tenants != NULL));
    }
    write_file("t4:k4");
    good = false;
    for (long count = 0; !good; count++) {
        assert_true(count < 200);
        fail_allocations_after(count);
        good = tenants_reload(tenants, &problem) == ERR_OK;
        fail_allocations_after(-1);
        assert_string_equal(owner_of("k0"), "t0");
        assert_string_equal(owner_of("k1"), good ? "" : "t1");
        assert_string_equal(owner_of("k4"), good ? "t4" : "");
    }
}

/* ---- readers beside a reload ---- */

enum {
    READERS = 3,
    RELOADS = 150,
};

struct reader {
    pthread_t thread;
    uint32_t number;
    const _Atomic bool *stop;
    uint64_t lookups;
    bool wrong;
};

static void *
look_up(void *arg)
{
    struct reader *reader = arg;

    while (!atomic_load(reader->stop)) {
        struct tenant *tenant = NULL;

        /* Always there; there now and then; never there. */
        if (tenants_find(tenants, reader->number, SPAN_LITERAL("stays"), &tenant) !=
                KEY_OF_TENANT ||
            !span_is(tenant->name, "t")) {
            reader->wrong = true;
        }
        if (tenants_find(tenants, reader->number, SPAN_LITERAL("comes"), &tenant) ==
                KEY_OF_TENANT &&
            !span_is(tenant->name, "u")) {
            reader->wrong = true;
        }
        if (tenants_find(tenants, reader->number, SPAN_LITERAL("nobody"), &tenant) !=
            KEY_OF_NOBODY) {
            reader->wrong = true;
        }
        reader->lookups++;
    }
    return NULL;
}

static void
lookups_go_on_while_keys_are_reloaded(void **state)
{
    struct reader reader[READERS];
    _Atomic bool stop = false;

    (void)state;
    assert_int_equal(open_file("t:stays"), ERR_OK);
    memset(reader, 0, sizeof(reader));
    for (uint32_t i = 0; i < READERS; i++) {
        reader[i].number = i == 0 ? TENANTS_READERS_MAX - 1 : i;
        reader[i].stop = &stop;
        assert_int_equal(pthread_create(&reader[i].thread, NULL, look_up, &reader[i]), 0);
    }
    for (int i = 0; i < RELOADS; i++) {
        write_file(i % 2 == 0 ? "t:stays\nu:comes\n" : "t:stays");
        assert_int_equal(tenants_reload(tenants, &problem), ERR_OK);
    }
    atomic_store(&stop, true);
    for (uint32_t i = 0; i < READERS; i++) {
        assert_int_equal(pthread_join(reader[i].thread, NULL), 0);
        assert_false(reader[i].wrong);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(without_keys_there_is_one_tenant_for_everybody),
        TEST(each_key_stands_for_its_tenant),
        TEST(blanks_and_empty_pairs_do_not_count),
        TEST(a_key_may_hold_colons_and_signs),
        TEST(a_pair_given_twice_is_one_key),
        TEST(a_file_has_lines_commas_and_comments),
        TEST(the_variable_and_the_file_add_up),
        TEST(a_digest_stands_for_its_key_and_is_none_itself),
        TEST(the_longest_names_and_keys_are_taken_and_longer_ones_are_not),
        TEST(what_is_not_a_pair_is_refused_and_told_without_the_key),
        TEST(a_bad_line_of_the_file_is_named),
        TEST(a_file_that_cannot_be_read_is_told),
        TEST(keys_that_are_asked_for_but_none_are_refused),
        TEST(the_admin_key_is_known_with_and_without_tenants),
        TEST(an_admin_key_that_is_none_or_a_tenant_s_is_refused),
        TEST(among_thousands_each_key_finds_its_tenant_and_nothing_else_does),
        TEST(too_many_keys_or_tenants_are_refused),
        TEST(a_reload_adds_and_removes_keys),
        TEST(a_reload_that_fails_changes_nothing),
        TEST(a_file_that_becomes_empty_does_not_open_the_door),
        TEST(a_reload_keeps_the_record_and_its_bucket),
        TEST(without_memory_nothing_is_half_done),
        TEST(lookups_go_on_while_keys_are_reloaded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
