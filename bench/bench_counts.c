/*
 * bench_counts.c - the counts engine without HTTP, on a log of its own: what an event costs on the
 * committer's thread, how fast events become history, and how long questions take.
 *
 *   bench_counts DIR [EVENTS [TAIL]]
 *
 * EVENTS (10 million) of one name, 4 channels, 20 campaigns and a million users, in order over 30
 * days, are folded and rolled up; then TAIL (1 million) of the last hour are added and left in the
 * tail. The same is done with a tenth of EVENTS first, and asked the same: what differs between the
 * two is what grows with events. One line per figure; a question is asked nine times on a fresh
 * view, the total before the groups as an answer does it, and the median counts.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/counts/counts.h"
#include "wal/wal.h"

enum {
    ADD_AT_ONCE = 500000,
    REPEATS = 9,
    CHANNELS = 4,
    CAMPAIGNS = 20,
    USERS = 1000000,
    TEXT_SIZE = 24,
    PATH_SIZE = 4096,
};

#define HOUR_US INT64_C(3600000000)
#define DAY_US (24 * HOUR_US)

struct bench {
    struct wal *wal;
    struct counts *counts;
    int64_t start_us; /* of the 30 days */
    int64_t end_us;
    int64_t folds;
    uint64_t seq;
    uint64_t random;
};

static const struct counts_filter PURCHASES = {
    SPAN_LITERAL("default"), SPAN_LITERAL("purchase"), {NULL, 0}, {NULL, 0}};

static int64_t
now_us(void)
{
    return clock_monotonic_us(clock_system());
}

static void
check(enum err err, const char *what)
{
    if (err != ERR_OK) {
        fprintf(stderr, "bench_counts: %s: %s\n", what, err_text(err));
        exit(1);
    }
}

static uint64_t
next_random(struct bench *bench)
{
    bench->random ^= bench->random << 13;
    bench->random ^= bench->random >> 7;
    bench->random ^= bench->random << 17;
    return bench->random;
}

static void
add(struct bench *bench, int64_t occurred_us)
{
    static const char *const channels[CHANNELS] = {"web", "ios", "android", "email"};
    char campaign[TEXT_SIZE] = "campaign-00";
    uint64_t random = next_random(bench);
    char user[TEXT_SIZE] = "user-000000";
    uint64_t number = random % CAMPAIGNS;
    struct event event = {
        .tenant = PURCHASES.tenant,
        .name = PURCHASES.event_name,
        .channel = span_of(channels[random / CAMPAIGNS % CHANNELS]),
        .campaign_id = {campaign, 11},
        .user_id = {user, 11},
        .occurred_at_us = occurred_us,
    };

    for (uint64_t digit = 10, rest = (random >> 32) % USERS; digit > 4; digit--, rest /= 10) {
        user[digit] = (char)('0' + rest % 10);
    }
    campaign[9] = (char)('0' + number / 10);
    campaign[10] = (char)('0' + number % 10);
    check(counts_add(bench->counts, ++bench->seq, &event), "add");
}

static void
fold(struct bench *bench)
{
    /* As if some time had passed since the last, so that what has come to rest is rolled up. */
    bench->folds++;
    check(counts_fold(bench->counts, bench->end_us + DAY_US + bench->folds * HOUR_US), "fold");
}

static void
fill(struct bench *bench, uint64_t events)
{
    const int64_t width_us = bench->end_us - bench->start_us;
    int64_t adding_us = 0;
    int64_t folding_us = 0;
    struct counts_stats stats;

    for (uint64_t done = 0; done < events;) {
        uint64_t count = events - done < ADD_AT_ONCE ? events - done : ADD_AT_ONCE;
        int64_t began_us = now_us();

        for (uint64_t i = 0; i < count; i++, done++) {
            add(bench,
                bench->start_us + (int64_t)((double)done / (double)events * (double)width_us));
        }
        adding_us += now_us() - began_us;
        began_us = now_us();
        fold(bench);
        fold(bench);
        folding_us += now_us() - began_us;
    }
    counts_stats(bench->counts, &stats);
    printf("counts work=add events=%llu ns_event=%.0f\n", (unsigned long long)events,
           (double)adding_us * 1000 / (double)events);
    printf("counts work=fold events=%llu events_s=%.0f bytes_event=%.1f\n",
           (unsigned long long)events, (double)events * 1e6 / (double)folding_us,
           (double)stats.history_bytes / (double)events);
}

/* ---- questions ---- */

static enum err
add_up(void *arg, struct span value, const struct counts_sum *sum)
{
    uint64_t *total = arg;

    (void)value;
    *total += sum->total;
    (void)counts_sum_users(sum);
    return ERR_OK;
}

static uint64_t
ask_by_value(struct counts_view *view, enum counts_dimension dimension, int64_t from_us,
             int64_t to_us)
{
    uint64_t total = 0;

    check(counts_view_each_value(view, &PURCHASES, dimension, from_us, to_us, add_up, &total),
          "each value");
    return total;
}

static uint64_t
ask_by_time(struct counts_view *view, int64_t from_us, int64_t to_us, int64_t step_us)
{
    uint64_t total = 0;

    for (int64_t at_us = from_us; at_us < to_us; at_us += step_us) {
        struct counts_sum sum = {0};
        int64_t end_us = at_us + step_us < to_us ? at_us + step_us : to_us;

        check(counts_view_sum(view, &PURCHASES, at_us, end_us, &sum), "sum");
        total += sum.total;
        (void)counts_sum_users(&sum);
        counts_sum_clear(&sum);
    }
    return total;
}

enum question {
    TOTAL,
    BY_CHANNEL,
    BY_CAMPAIGN,
    BY_DAY,
    BY_HOUR,
    BY_MINUTE_OF_A_DAY,
    QUESTIONS,
};

static const char *const QUESTION_NAME[QUESTIONS] = {"total", "channel", "campaign",
                                                     "day",   "hour",    "minute-of-a-day"};

static uint64_t
ask(struct bench *bench, struct counts_view *view, enum question question)
{
    /* Neither bound falls on anything round. */
    int64_t from_us = bench->start_us + 12345678;
    int64_t to_us = bench->end_us + HOUR_US - 1;
    uint64_t total = ask_by_time(view, from_us, to_us, to_us - from_us);

    switch (question) {
    case TOTAL:
        return total;
    case BY_CHANNEL:
        return ask_by_value(view, COUNTS_BY_CHANNEL, from_us, to_us);
    case BY_CAMPAIGN:
        return ask_by_value(view, COUNTS_BY_CAMPAIGN, from_us, to_us);
    case BY_DAY:
        return ask_by_time(view, bench->start_us, to_us, DAY_US);
    case BY_HOUR:
        return ask_by_time(view, bench->start_us, to_us, HOUR_US);
    case BY_MINUTE_OF_A_DAY:
        return ask_by_time(view, bench->end_us - DAY_US, bench->end_us, HOUR_US / 60);
    case QUESTIONS:
        break;
    }
    return 0;
}

static int
compare(const void *left, const void *right)
{
    int64_t a;
    int64_t b;

    memcpy(&a, left, sizeof(a));
    memcpy(&b, right, sizeof(b));
    return a < b ? -1 : a > b;
}

static void
ask_all(struct bench *bench, uint64_t events, uint64_t tail)
{
    for (int question = 0; question < QUESTIONS; question++) {
        int64_t us[REPEATS];
        uint64_t total = 0;

        for (int i = 0; i < REPEATS; i++) {
            struct counts_view *view;
            int64_t began_us = now_us();

            check(counts_view_open(bench->counts, &view), "view");
            total = ask(bench, view, (enum question)question);
            counts_view_close(view);
            us[i] = now_us() - began_us;
        }
        qsort(us, REPEATS, sizeof(us[0]), compare);
        printf("counts work=query server=sluice group_by=%s events=%llu tail=%llu total=%llu "
               "p50_us=%lld max_us=%lld\n",
               QUESTION_NAME[question], (unsigned long long)events, (unsigned long long)tail,
               (unsigned long long)total, (long long)us[REPEATS / 2], (long long)us[REPEATS - 1]);
        fflush(stdout);
    }
}

static void
open_engine(struct bench *bench, const char *dir)
{
    const struct wal_config wal = {
        .dir = dir,
        .bytes_max = (uint64_t)1 << 30,
        .partitions = 1,
        .queue_events = 1000,
        .id_window = 1000,
        .counts_bytes_max = (uint64_t)2 << 30,
        .clock = clock_system(),
    };
    struct counts_config config = {
        .clock = clock_system(),
        .history_bytes_max = (uint64_t)2 << 30,
    };

    check(wal_open(&bench->wal, &wal), "open");
    config.store = wal_count_store(bench->wal);
    check(counts_new(&bench->counts, &config), "counts");
    counts_begin(bench->counts, 0);
    check(wal_start(bench->wal), "start");
}

static void
run(const char *dir, uint64_t events, uint64_t tail)
{
    struct bench bench = {
        .start_us = INT64_C(1700000000) / 86400 * 86400 * 1000000,
        .random = 88172645463325252,
    };
    struct counts_stats stats;

    bench.end_us = bench.start_us + 30 * DAY_US;
    open_engine(&bench, dir);
    fill(&bench, events);
    ask_all(&bench, events, 0);
    for (uint64_t i = 0; i < tail; i++) {
        add(&bench, bench.end_us + (int64_t)(i * (HOUR_US / 1000) / tail * 1000));
    }
    counts_stats(bench.counts, &stats);
    if (stats.tail_events != tail) {
        fprintf(stderr, "bench_counts: the tail is %llu long\n",
                (unsigned long long)stats.tail_events);
        exit(1);
    }
    ask_all(&bench, events, tail);
    counts_free(bench.counts);
    wal_close(bench.wal);
}

int
main(int argc, char **argv)
{
    static const uint64_t PARTS[] = {10, 1};
    uint64_t events = argc > 2 ? strtoull(argv[2], NULL, 10) : 10000000;
    uint64_t tail = argc > 3 ? strtoull(argv[3], NULL, 10) : 1000000;
    char dir[PATH_SIZE];
    struct rusage usage;

    if (argc < 2) {
        fprintf(stderr, "usage: bench_counts DIR [EVENTS [TAIL]]\n");
        return 2;
    }
    log_setup(LOG_WARN, LOG_TEXT, 2);
    for (size_t i = 0; i < ARRAY_LEN(PARTS); i++) {
        const uint64_t part = PARTS[i];
        int len = snprintf(dir, sizeof(dir), "%s/%llu", argv[1], (unsigned long long)part);

        if (len < 0 || (size_t)len >= sizeof(dir) || mkdir(dir, 0700) != 0) {
            fprintf(stderr, "bench_counts: cannot make %s\n", dir);
            return 1;
        }
        run(dir, events / part, tail);
    }
    getrusage(RUSAGE_SELF, &usage);
    printf("counts work=memory max_kb=%ld\n", usage.ru_maxrss);
    return 0;
}
