/*
 * replicator.c - the state machine of replicator.h, and the thread that waits between its steps.
 *
 * The rule behind every line: the sink's own offset is the truth. A batch is sent only from there,
 * a batch whose fate is in doubt is thrown away and the offset is asked for again. What a batch
 * changes outside the sink (slices, the journal's note) happens once, after the sink has said it is
 * durable, and a part that cannot be finished at once is held and taken up where it stopped.
 *
 * Whether one position is before another is decided by counting this partition's sequence numbers
 * up to them, since between two of its stripes lie numbers of other partitions that mean nothing
 * here.
 */
#include "core/replicator.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "core/base/log.h"

enum {
    RANGES_MAX = 64,       /* halving N events leaves at most log2(N) + 1 ranges waiting */
    GROWTH_SLICE_MS = 100, /* the journal's wait cannot be interrupted: this bounds a stop */
    RETRY_LOG_MS = 10 * 1000,
};

/* Events [first, first + count) of the batch that was read: one transaction to be. */
struct range {
    size_t first;
    size_t count;
};

struct replicator {
    struct replicator_config config;
    struct journal *journal;
    struct sink sink;
    struct slices *slices;
    const struct clock *clock;
    struct metric_histogram batch_seconds;

    /* The replicator's thread only. */
    struct replicator_status now; /* published after each step */
    enum err fatal;               /* likewise */
    uint64_t noted;     /* last seq the journal has a note for; now.offset is the sink's */
    struct batch batch; /* as read */
    struct range ranges[RANGES_MAX]; /* still to be sent; the last one is the first in order */
    size_t range_count;
    struct batch part; /* a view of BATCH: what the sink holds and the journal does not know yet */
    bool settling;     /* PART is valid */
    size_t settled;    /* events of PART already taken care of in the slices */
    uint32_t attempt;  /* failures since the last progress */
    bool unreachable;  /* the last answer of position() or recover() was not a usable one */
    bool hurry;        /* stopping: do not wait for fuller batches */
    bool has_due;
    int64_t due_us;   /* when a batch that is not full is sent all the same */
    int64_t asked_us; /* when an idle partition last asked its sink */
    uint64_t random;
    bool has_logged_retry;
    int64_t logged_retry_us;
    uint64_t unlogged_retries;

    /* Main's only. */
    pthread_t thread;
    bool has_thread;

    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t wake;   /* STOPPING was set */
    bool stopping;
    int64_t drain_until_ms;
    struct replicator_status published;
    enum err published_fatal;
};

static const char *const STATE_NAME[] = {
#define REPLICATOR_NAME(name, text) [name] = text,
    REPLICATOR_STATES(REPLICATOR_NAME)
#undef REPLICATOR_NAME
};

const char *
replicator_state_name(enum replicator_state state)
{
    ASSERT((size_t)state < ARRAY_LEN(STATE_NAME));
    return STATE_NAME[state];
}

static void
lock(struct replicator *r)
{
    int rc = pthread_mutex_lock(&r->mutex);

    ASSERT(rc == 0);
}

static void
unlock(struct replicator *r)
{
    int rc = pthread_mutex_unlock(&r->mutex);

    ASSERT(rc == 0);
}

/* ---- sequence numbers of one partition ---- */

static uint64_t
own_count(const struct replicator *r, uint64_t seq)
{
    return journal_partition_count(seq, r->config.partition, r->journal->partitions);
}

/* The partition's first sequence number after SEQ. */
static uint64_t
own_next(const struct replicator *r, uint64_t seq)
{
    uint32_t partitions = r->journal->partitions;
    uint64_t stripe = seq / JOURNAL_STRIPE;
    uint32_t owner = (uint32_t)(stripe % partitions);
    uint32_t skip = (r->config.partition + partitions - owner) % partitions;

    return skip == 0 ? seq + 1 : (stripe + skip) * JOURNAL_STRIPE + 1;
}

static uint64_t
own_between(const struct replicator *r, uint64_t after_seq, uint64_t to_seq)
{
    uint64_t before = own_count(r, after_seq);
    uint64_t upto = own_count(r, to_seq);

    return upto > before ? upto - before : 0;
}

static uint64_t
lag_of(const struct replicator *r, uint64_t offset)
{
    return own_between(r, offset, r->journal->ops->durable_seq(r->journal->self));
}

/* ---- state ---- */

#define STATE_BIT(state) (1u << (state))

/* STATE_MOVES[from]: the states that may follow. */
static const uint32_t STATE_MOVES[] = {
    [REPLICATOR_CONNECTING] = STATE_BIT(REPLICATOR_CATCHING_UP) | STATE_BIT(REPLICATOR_STREAMING) |
                              STATE_BIT(REPLICATOR_REPLAYING) | STATE_BIT(REPLICATOR_BLOCKED) |
                              STATE_BIT(REPLICATOR_STOPPED),
    [REPLICATOR_CATCHING_UP] = STATE_BIT(REPLICATOR_CONNECTING) | STATE_BIT(REPLICATOR_STREAMING) |
                               STATE_BIT(REPLICATOR_BLOCKED) | STATE_BIT(REPLICATOR_STOPPED),
    [REPLICATOR_STREAMING] = STATE_BIT(REPLICATOR_CONNECTING) | STATE_BIT(REPLICATOR_BLOCKED) |
                             STATE_BIT(REPLICATOR_STOPPED),
    [REPLICATOR_REPLAYING] = STATE_BIT(REPLICATOR_CONNECTING) | STATE_BIT(REPLICATOR_STREAMING) |
                             STATE_BIT(REPLICATOR_BLOCKED) | STATE_BIT(REPLICATOR_STOPPED),
    [REPLICATOR_BLOCKED] = STATE_BIT(REPLICATOR_CONNECTING) | STATE_BIT(REPLICATOR_CATCHING_UP) |
                           STATE_BIT(REPLICATOR_STREAMING) | STATE_BIT(REPLICATOR_REPLAYING) |
                           STATE_BIT(REPLICATOR_STOPPED),
    [REPLICATOR_STOPPED] = 0,
};

static void
replicator_set_state(struct replicator *r, enum replicator_state state)
{
    if (state == r->now.state) {
        return;
    }
    ASSERT((STATE_MOVES[r->now.state] & STATE_BIT(state)) != 0);
    log_info("replicator.state", LOG_U64("partition", r->config.partition),
             LOG_STR("from", replicator_state_name(r->now.state)),
             LOG_STR("to", replicator_state_name(state)), LOG_U64("offset", r->now.offset),
             LOG_U64("noted", r->noted), LOG_END);
    r->now.state = state;
}

static void
publish(struct replicator *r)
{
    lock(r);
    r->published = r->now;
    r->published_fatal = r->fatal;
    unlock(r);
}

static void
note_progress(struct replicator *r)
{
    r->attempt = 0;
    r->now.last_error = ERR_OK;
}

/* Forgets the batch in hand and whatever was still to be done with it. */
static void
throw_away(struct replicator *r)
{
    r->range_count = 0;
    r->settling = false;
    batch_unfold(&r->part);
    batch_clear(&r->batch);
}

/* ---- failing ---- */

static uint64_t
next_random(struct replicator *r)
{
    r->random ^= r->random << 13;
    r->random ^= r->random >> 7;
    r->random ^= r->random << 17;
    return r->random;
}

/* Full jitter: anything up to a bound that doubles, so many replicators do not return together. */
static int
next_backoff_ms(struct replicator *r)
{
    int64_t bound = r->config.backoff_ms;

    for (uint32_t i = 0; i < r->attempt && bound < r->config.backoff_max_ms; i++) {
        bound *= 2;
    }
    if (bound > r->config.backoff_max_ms) {
        bound = r->config.backoff_max_ms;
    }
    r->attempt++;
    return 1 + (int)(next_random(r) % (uint64_t)bound);
}

static void
log_retry(struct replicator *r, const char *why, enum err err, int wait_ms)
{
    int64_t now_us = clock_monotonic_us(r->clock);

    if (r->has_logged_retry && now_us - r->logged_retry_us < (int64_t)RETRY_LOG_MS * 1000) {
        r->unlogged_retries++;
        return;
    }
    log_warn("replicator.retry", LOG_U64("partition", r->config.partition), LOG_STR("why", why),
             LOG_ERR(err), LOG_U64("attempt", r->attempt), LOG_I64("wait_ms", wait_ms),
             LOG_U64("offset", r->now.offset), LOG_U64("not_logged", r->unlogged_retries), LOG_END);
    r->has_logged_retry = true;
    r->logged_retry_us = now_us;
    r->unlogged_retries = 0;
}

/* Back to asking the sink where it stands, after a wait. */
static int
reconnect_later(struct replicator *r, const char *why, enum err err)
{
    int wait_ms = next_backoff_ms(r);

    throw_away(r);
    r->now.last_error = err;
    log_retry(r, why, err, wait_ms);
    replicator_set_state(r, REPLICATOR_CONNECTING);
    return wait_ms;
}

/* The same at once, unless that has just been tried: a sink that fails each time must not be
 * hammered. */
static int
reconnect_now(struct replicator *r, const char *why, enum err err)
{
    bool first = r->attempt == 0;
    int wait_ms = reconnect_later(r, why, err);

    return first ? 0 : wait_ms;
}

/* Waits for an operator; the caller has logged what is wrong and what helps. */
static int
block(struct replicator *r, enum err err)
{
    throw_away(r);
    r->now.last_error = err;
    r->unreachable = true;
    replicator_set_state(r, REPLICATOR_BLOCKED);
    return r->config.backoff_max_ms;
}

static int
stop_for(struct replicator *r, enum err err, bool fatal)
{
    throw_away(r);
    r->now.last_error = err;
    if (fatal) {
        r->fatal = err;
    }
    replicator_set_state(r, REPLICATOR_STOPPED);
    return -1;
}

/* The sink answered position() or recover() with ERR. */
static int
sink_failed(struct replicator *r, enum err err)
{
    r->unreachable = true;
    if (err == ERR_FENCED || err == ERR_IDENTITY) {
        log_error(
            "replicator.fatal", LOG_U64("partition", r->config.partition), LOG_ERR(err),
            LOG_STR("meaning", err_text(err)),
            LOG_STR("help", err == ERR_FENCED
                                ? "another instance writes for this node: stop it, or, if this log "
                                  "is an old copy, restore the newest one"
                                : "restore the newest log directory, or move this one away to "
                                  "start with a new node identity"),
            LOG_END);
        return stop_for(r, err, true);
    }
    if (err == ERR_FORMAT) {
        if (r->now.state != REPLICATOR_BLOCKED) {
            log_error("replicator.schema_too_new", LOG_U64("partition", r->config.partition),
                      LOG_STR("help", "start a build that knows the sink's schema; events are "
                                      "kept in the log meanwhile"),
                      LOG_END);
        }
        return block(r, err);
    }
    return reconnect_later(r, "sink unavailable", err);
}

/* ---- connecting ---- */

/* Sequence numbers the sink has seen are beyond what the log has given out. */
static int
stop_sink_ahead(struct replicator *r, uint64_t position, uint64_t durable)
{
    log_error("replicator.log_older_than_sink", LOG_U64("partition", r->config.partition),
              LOG_U64("sink_seq", position), LOG_U64("log_seq", durable),
              LOG_STR("help", "the log is an old copy; restore the newest log directory, or move "
                              "this one away to start with a new node identity"),
              LOG_END);
    return stop_for(r, ERR_IDENTITY, true);
}

/* True when the journal still has the partition's records after POSITION. */
static bool
journal_reaches_back_to(struct replicator *r, uint64_t position)
{
    struct journal_stats stats;

    r->journal->ops->stats(r->journal->self, &stats);
    return stats.oldest_seq != 0 && stats.oldest_seq <= own_next(r, position);
}

static int
block_missing(struct replicator *r)
{
    if (r->now.state != REPLICATOR_BLOCKED) {
        struct journal_stats stats;

        r->journal->ops->stats(r->journal->self, &stats);
        log_error("replicator.records_missing", LOG_U64("partition", r->config.partition),
                  LOG_U64("missing_from_seq", own_next(r, r->now.offset)),
                  LOG_U64("missing_to_seq", stats.oldest_seq != 0 && stats.oldest_seq <= r->noted
                                                ? stats.oldest_seq - 1
                                                : r->noted),
                  LOG_STR("help", "the sink went back in time further than the log reaches; "
                                  "restore a newer copy of the database"),
                  LOG_END);
    }
    return block(r, ERR_NOT_FOUND);
}

static int
connect_step(struct replicator *r)
{
    uint64_t position = 0;
    uint64_t durable = 0;
    uint64_t in_sink = 0;
    uint64_t in_notes = 0;
    enum err err = r->sink.ops->position(r->sink.self, &position);

    if (err != ERR_OK) {
        return sink_failed(r, err);
    }
    r->now.connected_us = clock_wall_us(r->clock);
    durable = r->journal->ops->durable_seq(r->journal->self);
    r->noted = r->journal->ops->replicated_seq(r->journal->self, r->config.partition);
    if (position > durable) {
        return stop_sink_ahead(r, position, durable);
    }
    r->now.offset = position;
    in_sink = own_count(r, position);
    in_notes = own_count(r, r->noted);
    if (in_sink < in_notes && !journal_reaches_back_to(r, position)) {
        return block_missing(r);
    }
    r->unreachable = false;
    if (in_sink > in_notes) {
        replicator_set_state(r, REPLICATOR_CATCHING_UP);
    } else if (in_sink < in_notes) {
        log_warn("replicator.sink_went_back", LOG_U64("partition", r->config.partition),
                 LOG_U64("sink_seq", position), LOG_U64("noted", r->noted), LOG_END);
        replicator_set_state(r, REPLICATOR_REPLAYING);
    } else {
        replicator_set_state(r, REPLICATOR_STREAMING);
    }
    return 0;
}

/* ---- reading ---- */

/* Every one of the partition's sequence numbers after AFTER_SEQ must be there: a gap is a lost
 * event. */
static bool
batch_is_whole(const struct replicator *r, uint64_t after_seq, uint64_t bound)
{
    const struct batch *batch = &r->batch;
    uint64_t expected = own_next(r, after_seq);

    if (batch->after_seq != after_seq || batch->partition != r->config.partition ||
        batch->count == 0 || batch->to_seq > bound) {
        return false;
    }
    for (size_t i = 0; i < batch->count; i++) {
        if (batch->events[i].seq != expected) {
            return false;
        }
        expected = own_next(r, expected);
    }
    return batch->to_seq >= batch->events[batch->count - 1].seq && batch->to_seq < expected;
}

static int
read_failed(struct replicator *r, uint64_t after_seq, enum err err)
{
    if (err != ERR_CORRUPT && err != ERR_FORMAT && err != ERR_NOT_FOUND) {
        return reconnect_later(r, "journal read", err);
    }
    log_error("replicator.record_unreadable", LOG_U64("partition", r->config.partition),
              LOG_U64("seq", own_next(r, after_seq)), LOG_ERR(err),
              LOG_STR("help", "nothing is skipped; run the offline check on the log"), LOG_END);
    return block(r, err);
}

/* Reads the records after AFTER_SEQ that are known to be there; ERR_CORRUPT when they have a gap.
 */
static enum err
read_batch(struct replicator *r, uint64_t after_seq, uint64_t bound)
{
    const struct batch_limits limits = {
        .events_max = r->config.batch_events_max,
        .bytes_max = r->config.batch_bytes_max,
        .to_seq = bound,
    };
    enum err err =
        r->journal->ops->read(r->journal->self, r->config.partition, after_seq, &limits, &r->batch);

    if (err == ERR_OK && !batch_is_whole(r, after_seq, bound)) {
        err = ERR_CORRUPT;
    }
    return err;
}

/* ---- settling what the sink holds ---- */

static void
count_outcomes(struct replicator *r)
{
    for (size_t i = 0; i < r->part.count; i++) {
        switch (r->part.events[i].outcome) {
        case OUTCOME_STORED:
            r->now.stored++;
            break;
        case OUTCOME_DUPLICATE:
            r->now.duplicates++;
            break;
        case OUTCOME_DEAD:
            r->now.dead++;
            break;
        }
    }
}

/* Takes what the sink knew already out of the slices, from where it stopped last time. */
static enum err
settle_slices(struct replicator *r)
{
    for (; r->settled < r->part.count; r->settled++) {
        const struct batch_event *item = &r->part.events[r->settled];
        enum err err = ERR_OK;

        if (item->outcome != OUTCOME_DUPLICATE || !event_is_measured(&item->event)) {
            continue;
        }
        err = slices_remove_event(r->slices, &item->event, item->seq, clock_wall_us(r->clock));
        if (err != ERR_OK) {
            return err;
        }
    }
    return ERR_OK;
}

/* The journal took no note. Where nothing was stored the same note may be given again. */
static int
advance_failed(struct replicator *r, enum err err)
{
    int wait_ms = 0;

    switch (err) {
    case ERR_AGAIN:
    case ERR_FULL:
    case ERR_NO_MEMORY:
        wait_ms = next_backoff_ms(r);
        r->now.last_error = err;
        log_retry(r, "journal advance", err, wait_ms);
        return wait_ms;
    case ERR_CLOSED:
        return stop_for(r, err, false);
    default:
        log_error("replicator.fatal", LOG_U64("partition", r->config.partition), LOG_ERR(err),
                  LOG_STR("meaning", "the log took no note of what the sink holds"), LOG_END);
        return stop_for(r, err, true);
    }
}

static int
settle_step(struct replicator *r)
{
    enum err err = settle_slices(r);

    if (err != ERR_OK) {
        int wait_ms = next_backoff_ms(r);

        r->now.last_error = err;
        log_retry(r, "slices", err, wait_ms);
        return wait_ms;
    }
    err = r->journal->ops->advance(r->journal->self, r->config.partition, r->part.to_seq,
                                   &r->part.delta, &r->part.removals);
    if (err != ERR_OK) {
        return advance_failed(r, err);
    }
    count_outcomes(r);
    r->noted = r->part.to_seq;
    r->settling = false;
    batch_unfold(&r->part);
    note_progress(r);
    if (r->now.state == REPLICATOR_CATCHING_UP && own_between(r, r->noted, r->now.offset) == 0) {
        replicator_set_state(r, REPLICATOR_STREAMING);
    }
    return 0;
}

/* From here on PART is in the sink and its fate elsewhere is settled, however often that is tried.
 */
static int
settle_begin(struct replicator *r)
{
    r->settling = true;
    r->settled = 0;
    return settle_step(r);
}

/* ---- catching up ---- */

static int
catch_up_step(struct replicator *r)
{
    enum err err = read_batch(r, r->noted, r->now.offset);

    if (err != ERR_OK) {
        return read_failed(r, r->noted, err);
    }
    err = r->sink.ops->recover(r->sink.self, &r->batch);
    if (err != ERR_OK) {
        return sink_failed(r, err);
    }
    r->now.connected_us = clock_wall_us(r->clock);
    r->part = batch_part(&r->batch, 0, r->batch.count);
    err = batch_fold(&r->part, slices_rules(r->slices));
    if (err != ERR_OK) {
        return reconnect_later(r, "folding", err);
    }
    return settle_begin(r);
}

/* ---- sending ---- */

static void
halve(struct replicator *r)
{
    struct range *range = &r->ranges[r->range_count - 1];
    size_t left = range->count / 2;
    struct range first_half = {range->first, left};

    ASSERT(left > 0);
    ASSERT(r->range_count < RANGES_MAX);
    range->first += left;
    range->count -= left;
    r->ranges[r->range_count++] = first_half;
}

static int
part_applied(struct replicator *r)
{
    r->range_count--;
    r->now.connected_us = clock_wall_us(r->clock);
    r->now.offset = r->part.to_seq;
    if (r->now.state == REPLICATOR_STREAMING) {
        return settle_begin(r);
    }
    /* The journal's history and the slices hold these records since the first time. */
    r->now.replayed += r->part.count;
    batch_unfold(&r->part);
    note_progress(r);
    if (own_between(r, r->now.offset, r->noted) == 0) {
        replicator_set_state(r, REPLICATOR_STREAMING);
    }
    return 0;
}

static int
part_rejected(struct replicator *r, const struct sink_reject *reject)
{
    struct batch_event *item = &r->part.events[0];

    if (r->part.count > 1) {
        halve(r);
        return 0;
    }
    if (item->outcome == OUTCOME_DEAD) {
        /* The dead letters themselves are refused: a fault of the sink, never of the event. */
        r->now.retries++;
        return reconnect_later(r, "dead letter refused", ERR_INVALID);
    }
    item->outcome = OUTCOME_DEAD;
    item->reject_code = reject->code;
    memcpy(item->reject_reason, reject->reason, sizeof(item->reject_reason));
    item->reject_reason[sizeof(item->reject_reason) - 1] = '\0';
    return 0;
}

static int
part_too_big(struct replicator *r)
{
    if (r->part.count > 1) {
        halve(r);
        return 0;
    }
    /* A limit of the sink stands against one event: the limit can be raised, the event is kept. */
    r->now.retries++;
    return reconnect_later(r, "sink takes no event of this size", ERR_TOO_BIG);
}

static enum sink_result
apply_timed(struct replicator *r, struct sink_reject *reject)
{
    int64_t started_us = clock_monotonic_us(r->clock);
    enum sink_result result = r->sink.ops->apply(r->sink.self, &r->part, reject);

    metric_observe(&r->batch_seconds, (double)(clock_monotonic_us(r->clock) - started_us) / 1e6);
    return result;
}

static int
apply_step(struct replicator *r)
{
    struct range range = r->ranges[r->range_count - 1];
    struct sink_reject reject = {0};
    enum sink_result result = SINK_RETRY;

    r->part = batch_part(&r->batch, range.first, range.count);
    for (size_t i = 0; i < r->part.count; i++) {
        /* An attempt that was not stored may have left its findings here. */
        if (r->part.events[i].outcome == OUTCOME_DUPLICATE) {
            r->part.events[i].outcome = OUTCOME_STORED;
        }
    }
    result = apply_timed(r, &reject);
    if (result == SINK_APPLIED) {
        return part_applied(r);
    }
    batch_unfold(&r->part);
    switch (result) {
    case SINK_APPLIED:
        break;
    case SINK_RETRY:
        r->now.retries++;
        return reconnect_later(r, "batch not stored", ERR_UNAVAILABLE);
    case SINK_UNKNOWN:
        r->now.retries++;
        return reconnect_now(r, "answer to the commit lost", ERR_UNKNOWN);
    case SINK_REJECTED:
        return part_rejected(r, &reject);
    case SINK_TOO_BIG:
        return part_too_big(r);
    case SINK_FENCED:
        r->now.retries++;
        return reconnect_now(r, "offset is not where the batch starts", ERR_FENCED);
    }
    return reconnect_later(r, "answer unknown to this build", ERR_UNKNOWN);
}

/* How long a batch of LAG events still waits for more; 0 when it is to be sent now. */
static int
wait_for_more_ms(struct replicator *r, uint64_t lag)
{
    int64_t now_us = clock_monotonic_us(r->clock);

    if (r->hurry || r->config.batch_wait_ms <= 0 || lag >= r->config.batch_events_max) {
        return 0;
    }
    if (!r->has_due) {
        r->has_due = true;
        r->due_us = now_us + (int64_t)r->config.batch_wait_ms * 1000;
    }
    if (now_us >= r->due_us) {
        return 0;
    }
    return (int)((r->due_us - now_us + 999) / 1000);
}

/*
 * Nothing to send. An idle partition would never notice that its sink is gone, was put back in time
 * or taken over, so it asks for the offset now and then.
 */
static int
idle_step(struct replicator *r)
{
    int64_t now_us = clock_monotonic_us(r->clock);
    uint64_t stored = 0;
    enum err err = ERR_OK;

    if (r->config.idle_check_ms <= 0 ||
        now_us - r->asked_us < (int64_t)r->config.idle_check_ms * 1000) {
        return -1;
    }
    r->asked_us = now_us;
    err = r->sink.ops->position(r->sink.self, &stored);
    if (err != ERR_OK) {
        return sink_failed(r, err);
    }
    r->now.connected_us = clock_wall_us(r->clock);
    if (stored != r->now.offset) {
        return reconnect_now(r, "offset moved while idle", ERR_UNKNOWN);
    }
    return -1;
}

/* Reads the next batch to send; sending it is the next step. */
static int
next_batch_step(struct replicator *r)
{
    bool replaying = r->now.state == REPLICATOR_REPLAYING;
    uint64_t after_seq = r->now.offset;
    uint64_t bound = replaying ? r->noted : r->journal->ops->durable_seq(r->journal->self);
    uint64_t lag = own_between(r, after_seq, bound);
    enum err err = ERR_OK;

    if (lag == 0) {
        ASSERT(!replaying);
        r->has_due = false;
        note_progress(r);
        return idle_step(r);
    }
    if (!replaying) {
        int wait_ms = wait_for_more_ms(r, lag);

        if (wait_ms > 0) {
            return wait_ms;
        }
    }
    err = read_batch(r, after_seq, bound);
    if (err != ERR_OK) {
        return read_failed(r, after_seq, err);
    }
    /* What this batch leaves behind has waited already: its due time stays in the past. */
    r->has_due = r->has_due && own_between(r, r->batch.to_seq, bound) > 0;
    r->ranges[0] = (struct range){0, r->batch.count};
    r->range_count = 1;
    return 0;
}

static int
send_step(struct replicator *r)
{
    return r->range_count > 0 ? apply_step(r) : next_batch_step(r);
}

int
replicator_step(struct replicator *r)
{
    int wait_ms = -1;

    if (r->settling) {
        wait_ms = settle_step(r);
    } else {
        switch (r->now.state) {
        case REPLICATOR_CONNECTING:
        case REPLICATOR_BLOCKED:
            wait_ms = connect_step(r);
            break;
        case REPLICATOR_CATCHING_UP:
            wait_ms = catch_up_step(r);
            break;
        case REPLICATOR_STREAMING:
        case REPLICATOR_REPLAYING:
            wait_ms = send_step(r);
            break;
        case REPLICATOR_STOPPED:
            break;
        }
    }
    publish(r);
    return wait_ms;
}

/* ---- the thread ---- */

/* The thread sleeps in real time whatever clock the steps use, so its deadlines are real too. */
static int64_t
real_ms(void)
{
    return clock_monotonic_us(clock_system()) / 1000;
}

static bool
is_stopping(struct replicator *r, int64_t *drain_until_ms_out)
{
    bool stopping = false;

    lock(r);
    stopping = r->stopping;
    *drain_until_ms_out = r->drain_until_ms;
    unlock(r);
    return stopping;
}

/* Sleeps until UNTIL_MS; a stop that was not known yet ends it at once. */
static void
sleep_until(struct replicator *r, int64_t until_ms, bool known_stopping)
{
    struct timespec until = {
        .tv_sec = (time_t)(until_ms / 1000),
        .tv_nsec = (long)(until_ms % 1000) * 1000000,
    };
    int rc = 0;

    lock(r);
    while (rc == 0 && r->stopping == known_stopping) {
        rc = pthread_cond_timedwait(&r->wake, &r->mutex, &until);
    }
    unlock(r);
    ASSERT(rc == 0 || rc == ETIMEDOUT);
}

/* True when there is nothing left to send, or no hope or time to send it. */
static bool
drain_is_over(struct replicator *r, int64_t until_ms)
{
    bool clean = !r->settling && r->now.state != REPLICATOR_CATCHING_UP;

    return r->unreachable || real_ms() >= until_ms || (clean && lag_of(r, r->now.offset) == 0);
}

static void
wait_for_growth(struct replicator *r)
{
    enum err err = r->journal->ops->wait_durable(r->journal->self, own_next(r, r->now.offset),
                                                 GROWTH_SLICE_MS);

    if (err != ERR_OK && err != ERR_TIMEOUT) {
        /* The journal is closing; records it still commits are found by looking. */
        sleep_until(r, real_ms() + GROWTH_SLICE_MS, false);
    }
}

static void
wait_between_steps(struct replicator *r, int wait_ms, bool stopping, int64_t drain_until_ms)
{
    int64_t until_ms = 0;

    if (wait_ms == 0) {
        return;
    }
    if (wait_ms < 0) {
        if (!stopping) {
            wait_for_growth(r);
        }
        return;
    }
    until_ms = real_ms() + wait_ms;
    if (stopping && drain_until_ms < until_ms) {
        until_ms = drain_until_ms;
    }
    sleep_until(r, until_ms, stopping);
}

static void *
replicator_main(void *arg)
{
    struct replicator *r = arg;

    for (;;) {
        int64_t drain_until_ms = 0;
        bool stopping = is_stopping(r, &drain_until_ms);
        int wait_ms = 0;

        if (stopping && drain_is_over(r, drain_until_ms)) {
            break;
        }
        r->hurry = stopping;
        wait_ms = replicator_step(r);
        if (r->now.state == REPLICATOR_STOPPED) {
            return NULL;
        }
        wait_between_steps(r, wait_ms, stopping, drain_until_ms);
    }
    throw_away(r);
    replicator_set_state(r, REPLICATOR_STOPPED);
    publish(r);
    return NULL;
}

enum err
replicator_start(struct replicator *r)
{
    ASSERT(!r->has_thread);
    ASSERT(!r->stopping);
    if (pthread_create(&r->thread, NULL, replicator_main, r) != 0) {
        return ERR_NO_MEMORY;
    }
    r->has_thread = true;
    return ERR_OK;
}

void
replicator_stop(struct replicator *r, int drain_ms)
{
    int rc = 0;

    if (!r->has_thread) {
        return;
    }
    lock(r);
    r->stopping = true;
    r->drain_until_ms = real_ms() + (drain_ms > 0 ? drain_ms : 0);
    rc = pthread_cond_signal(&r->wake);
    ASSERT(rc == 0);
    unlock(r);
    rc = pthread_join(r->thread, NULL);
    ASSERT(rc == 0);
    r->has_thread = false;
}

/* ---- life and looking ---- */

static enum err
init_locks(struct replicator *r)
{
    pthread_condattr_t attr;
    int rc = pthread_condattr_init(&attr);

    if (rc != 0) {
        return ERR_NO_MEMORY;
    }
    rc = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    ASSERT(rc == 0);
    rc = pthread_cond_init(&r->wake, &attr);
    (void)pthread_condattr_destroy(&attr);
    if (rc != 0) {
        return ERR_NO_MEMORY;
    }
    if (pthread_mutex_init(&r->mutex, NULL) != 0) {
        (void)pthread_cond_destroy(&r->wake);
        return ERR_NO_MEMORY;
    }
    return ERR_OK;
}

/* Differs between nodes, partitions and starts; never 0, which the generator could not leave. */
static uint64_t
random_seed(const struct replicator *r)
{
    uint64_t seed = (uint64_t)clock_wall_us(r->clock) ^ ((uint64_t)r->config.partition << 48);

    for (size_t i = 0; i < JOURNAL_NODE_ID_SIZE; i++) {
        seed = (seed ^ r->journal->node_id[i]) * 1099511628211u;
    }
    return seed | 1;
}

enum err
replicator_new(struct replicator **out, const struct replicator_config *config,
               struct journal *journal, struct sink sink, struct slices *slices,
               const struct clock *clock)
{
    struct replicator *r = NULL;

    ASSERT(config->partition < journal->partitions);
    ASSERT(config->batch_events_max > 0);
    ASSERT(config->backoff_ms > 0);
    r = calloc(1, sizeof(*r));
    if (r == NULL) {
        return ERR_NO_MEMORY;
    }
    if (init_locks(r) != ERR_OK) {
        free(r);
        return ERR_NO_MEMORY;
    }
    r->config = *config;
    if (r->config.backoff_max_ms < config->backoff_ms) {
        r->config.backoff_max_ms = config->backoff_ms;
    }
    r->journal = journal;
    r->sink = sink;
    r->slices = slices;
    r->clock = clock;
    r->random = random_seed(r);
    r->noted = journal->ops->replicated_seq(journal->self, config->partition);
    r->now.offset = r->noted;
    metric_histogram_init(&r->batch_seconds, METRIC_SECONDS_BOUNDS, METRIC_SECONDS_BOUND_COUNT);
    publish(r);
    *out = r;
    return ERR_OK;
}

void
replicator_free(struct replicator *r)
{
    if (r == NULL) {
        return;
    }
    ASSERT(!r->has_thread);
    throw_away(r);
    batch_free(&r->batch);
    r->sink.ops->close(r->sink.self);
    (void)pthread_cond_destroy(&r->wake);
    (void)pthread_mutex_destroy(&r->mutex);
    free(r);
}

void
replicator_status(struct replicator *r, struct replicator_status *out)
{
    lock(r);
    *out = r->published;
    unlock(r);
    out->lag_events = lag_of(r, out->offset);
}

const struct metric_histogram *
replicator_batch_seconds(const struct replicator *r)
{
    return &r->batch_seconds;
}

enum err
replicator_fatal(struct replicator *r)
{
    enum err fatal = ERR_OK;

    lock(r);
    fatal = r->published_fatal;
    unlock(r);
    return fatal;
}
