/*
 * verify.c - `sluice verify`: everything the log holds; with --mysql the conservation audit.
 *
 * The audit proves, per partition: accepted = rows + dead letters + repeats + pending. The log and
 * the database both move while it reads, so it takes three cuts, in this order:
 *
 *   1. the log   its end D and progress R, then every record up to D: what is there, what is not
 *   2. MySQL     offsets with their sums, rows and dead letters, all in one snapshot; offset M
 *   3. the log   its end E and epoch
 *
 * Why a live server under load comes out with a difference of 0:
 *   - R <= M: the server notes progress in the log only after MySQL has committed it, so what it
 *     trimmed before or during 1 is in MySQL by 2, and a record is never looked for in vain.
 *   - A replayed dead letter stays one for the offset's sums, and its row is one more than they
 *     say: letters and rows are of one snapshot, so each such row has its letter.
 *   - M <= E: only durable records are given to MySQL, so an offset after E was never in this log.
 *   - A partition's account is closed at C = max(D, M). Up to M the database's snapshot must add
 *     up by itself; what lies in (M, D] must have been found readable in 1. When MySQL has
 *     overtaken D meanwhile, nothing of the partition is pending.
 * With D first, work that arrives later is in neither side of the sum. The other order would have
 * to tell records that were trimmed while it read from records that are lost.
 *
 * R > M is no difference by itself: a database that went back in time gets the records again as
 * long as the log retains them, and they count as pending.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "cli/commands.h"
#include "cli/look.h"
#include "storage/mysql_audit.h"
#include "wal/verify.h"

enum verify_flag {
    FLAG_MYSQL
};

static const struct flag FLAGS[] = {
    [FLAG_MYSQL] = {"--mysql", NULL,
                    "also prove that accepted = rows + dead letters + repeats + pending"},
};
const struct flag_table VERIFY_FLAGS = {FLAGS, ARRAY_LEN(FLAGS)};

enum {
    FINDINGS_SHOWN = 100,
    ABSENT_SHOWN = 20,
};

/* One partition's account; drawn up at the top. */
struct account {
    uint64_t accepted;
    uint64_t offset;
    uint64_t stored;
    uint64_t dead;
    uint64_t repeats;
    uint64_t pending;
    uint64_t again; /* of the pending: MySQL had them before it went back in time */
};

struct audit {
    struct look *look;
    struct mysql_config config;
    struct mysql_audit mysql;
    struct log_verified log;
    struct log_summary end;
    uint64_t findings;
};

static enum err
check_database(struct look *look, void *arg, struct buffer *problem)
{
    (void)arg;
    if (look->value[FLAG_MYSQL] == NULL || options_has_db(&look->options)) {
        return ERR_OK;
    }
    buffer_append_text(problem, "--mysql needs a database: set DB_URL or DB_HOST");
    return ERR_INVALID;
}

static void
print_finding(void *arg, uint64_t seq, const char *text)
{
    struct audit *audit = arg;

    audit->findings++;
    if (audit->findings > FINDINGS_SHOWN) {
        return; /* counted in the summary line */
    }
    if (seq == 0) {
        printf("FOUND %s\n", text);
    } else {
        printf("FOUND seq %" PRIu64 ": %s\n", seq, text);
    }
}

static PRINTF_LIKE(3, 4) void found(struct audit *audit, uint64_t seq, const char *format, ...)
{
    char text[256];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    print_finding(audit, seq, text);
}

/* ---- the log ---- */

static void
print_checked(const struct log_verified *log)
{
    const struct log_summary *start = &log->start;

    if (log->oldest_seq != 0) {
        printf("records     %" PRIu64 " good, seq %" PRIu64 " to %" PRIu64 ", in %" PRIu64
               " blocks\n",
               log->records, log->oldest_seq, start->last_seq, log->blocks);
    } else {
        printf("records     none\n");
    }
    printf("segments    %" PRIu64 "\n", log->segments);
    printf("ids         %" PRIu64 " in %" PRIu64 " blocks\n", log->ids, log->id_blocks);
    printf("slices      %" PRIu64 "\n", log->slices);
    printf("counts      %" PRIu64 "\n", log->counts);
    printf("starts      %" PRIu64 ", epoch %" PRIu64 "\n", log->starts, start->state.epoch);
    printf("pages       %" PRIu64 " used, %" PRIu64 " free\n", log->pages_used, log->pages_free);
}

/* ---- the account with MySQL ---- */

/* Seqs of PARTITION in (AFTER, TO] this log has ever handed out. */
static uint64_t
count_between(const struct audit *audit, uint32_t partition, uint64_t after, uint64_t to)
{
    const struct log_state *state = &audit->log.start.state;

    after = after < state->first_seq - 1 ? state->first_seq - 1 : after;
    if (after >= to) {
        return 0;
    }
    return journal_partition_count(to, partition, state->partitions) -
           journal_partition_count(after, partition, state->partitions);
}

static struct account
draw_account(struct audit *audit, uint32_t partition)
{
    const uint64_t end = audit->log.start.last_seq;
    const uint64_t replicated = audit->log.start.state.replicated[partition];
    const uint64_t trimmed = audit->log.trimmed_to < end ? audit->log.trimmed_to : end;
    struct account account = {0};
    uint64_t lost;

    for (uint32_t i = 0; i < audit->mysql.partition_count; i++) {
        const struct mysql_audit_partition *row = &audit->mysql.partition[i];

        if (row->partition == partition) {
            account.offset = row->last_seq;
            account.stored = row->stored;
            account.dead = row->dead;
            account.repeats = row->duplicates;
        }
    }
    account.accepted =
        count_between(audit, partition, 0, account.offset > end ? account.offset : end);
    lost = log_verified_lost(&audit->log, partition, account.offset, end) +
           count_between(audit, partition, account.offset, trimmed);
    account.pending = count_between(audit, partition, account.offset, end) - lost;
    account.again = count_between(audit, partition, account.offset, replicated);
    return account;
}

static void
print_absent(void *arg, uint64_t first, uint64_t last)
{
    (void)arg;
    printf("            seq %" PRIu64 " to %" PRIu64 " has neither row nor dead letter\n", first,
           last);
}

/* Sums that do not agree are followed by where to look. */
static void
show_absent(struct audit *audit, uint32_t partition, const struct account *account)
{
    const struct log_state *state = &audit->log.start.state;
    enum err err;

    if (account->repeats > 0) {
        printf("            %" PRIu64 " of what follows may be repeats, which have no row\n",
               account->repeats);
    }
    err = mysql_audit_absent(&audit->config, state->node_id, partition, state->partitions,
                             account->offset, ABSENT_SHOWN, print_absent, NULL);
    if (err != ERR_OK) {
        printf("            which ones cannot be told: %s\n", err_text(err));
    }
}

static void
check_tables(struct audit *audit, uint32_t partition, const struct account *account)
{
    const struct mysql_audit_held *held = &audit->mysql.held[partition];
    bool differs = false;

    if (held->rows != account->stored + held->replayed) {
        found(audit, 0,
              "partition %" PRIu32 " has %" PRIu64 " rows in events, its offset says %" PRIu64
              " and %" PRIu64 " dead letters were replayed",
              partition, held->rows, account->stored, held->replayed);
        differs = true;
    }
    if (held->dead_letters != account->dead) {
        found(audit, 0,
              "partition %" PRIu32 " has %" PRIu64 " dead letters, its offset says %" PRIu64,
              partition, held->dead_letters, account->dead);
        differs = true;
    }
    if (held->last_seq > account->offset) {
        found(audit, held->last_seq,
              "MySQL has a row or dead letter beyond the offset of partition %" PRIu32 ", %" PRIu64,
              partition, account->offset);
    }
    if (differs) {
        show_absent(audit, partition, account);
    }
}

static int64_t
check_partition(struct audit *audit, uint32_t partition)
{
    const uint32_t partitions = audit->log.start.state.partitions;
    const struct account account = draw_account(audit, partition);
    const int64_t difference = (int64_t)(account.accepted - account.stored - account.dead -
                                         account.repeats - account.pending);

    printf("partition %-2" PRIu32 "accepted %" PRIu64 " = %" PRIu64 " rows + %" PRIu64
           " dead letters + %" PRIu64 " repeats + %" PRIu64 " pending (offset %" PRIu64 ")\n",
           partition, account.accepted, account.stored, account.dead, account.repeats,
           account.pending, account.offset);
    if (audit->mysql.held[partition].replayed > 0) {
        printf("            %" PRIu64 " of the dead letters have become rows since, by a replay\n",
               audit->mysql.held[partition].replayed);
    }
    if (account.again > 0) {
        printf("            MySQL went back in time: %" PRIu64
               " of the pending were there before\n",
               account.again);
    }
    if (difference != 0) {
        found(audit, 0, "partition %" PRIu32 " differs by %" PRId64, partition, difference);
    }
    if (account.offset > audit->end.last_seq) {
        found(audit, account.offset, "MySQL is ahead of the log, which ends at %" PRIu64,
              audit->end.last_seq);
    } else if (account.offset != 0 &&
               journal_partition_of(account.offset, partitions) != partition) {
        found(audit, account.offset, "the offset of partition %" PRIu32 " belongs to another",
              partition);
    }
    check_tables(audit, partition, &account);
    return difference;
}

static void
check_offsets(struct audit *audit)
{
    for (uint32_t i = 0; i < audit->mysql.partition_count; i++) {
        const struct mysql_audit_partition *row = &audit->mysql.partition[i];

        if (row->partition >= audit->log.start.state.partitions) {
            found(audit, row->last_seq,
                  "MySQL has an offset of partition %" PRIu32 ", the log none", row->partition);
        }
        if (row->epoch > audit->end.state.epoch) {
            found(audit, 0,
                  "MySQL has seen epoch %" PRIu64 " of partition %" PRIu32
                  ", the log is only at %" PRIu64 ": it is an older copy",
                  row->epoch, row->partition, audit->end.state.epoch);
        }
    }
}

static enum err
audit_mysql(struct audit *audit, struct buffer *problem)
{
    const struct log_state *state = &audit->log.start.state;
    int64_t difference = 0;
    enum err err;

    mysql_library_start();
    err = mysql_audit_read(&audit->config, state->node_id, state->partitions, &audit->mysql);
    if (err != ERR_OK) {
        buffer_append_text(problem, "the database cannot be read");
    } else {
        err = log_view_summary(audit->look->view, &audit->end, problem);
    }
    if (err == ERR_OK) {
        check_offsets(audit);
        for (uint32_t p = 0; p < state->partitions; p++) {
            difference += check_partition(audit, p);
        }
        printf("difference  %" PRId64 "\n", difference);
    }
    mysql_library_stop();
    return err;
}

static int
verify(struct look *look, void *arg)
{
    struct audit audit = {.look = look};
    struct buffer problem = BUFFER_EMPTY;
    enum err err;
    int code = EXIT_WRONG;

    (void)arg;
    err = log_verify(look->view, print_finding, &audit, &audit.log, &problem);
    print_checked(&audit.log);
    if (err == ERR_OK && look->value[FLAG_MYSQL] != NULL) {
        audit.config = options_mysql(&look->options);
        err = audit_mysql(&audit, &problem);
    }
    if (err != ERR_OK) {
        (void)look_failed(look, err, &problem);
        printf("not finished, %" PRIu64 " found\n", audit.findings);
    } else if (audit.findings > 0) {
        printf("%" PRIu64 " found\n", audit.findings);
    } else {
        printf("all good\n");
        code = EXIT_GOOD;
    }
    log_verified_free(&audit.log);
    buffer_free(&problem);
    return code;
}

int
command_verify(int argc, char **argv)
{
    return look_run("verify", &VERIFY_FLAGS, argc, argv, check_database, verify, NULL);
}
