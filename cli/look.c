#include "cli/look.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/commands.h"
#include "core/base/log.h"

/* What a damaged page may end a process with. */
static const int FAULTS[] = {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL};

int
look_failed(const struct look *look, enum err err, const struct buffer *problem)
{
    const char *text = problem->len == 0 ? err_text(err) : problem->data;
    const int len = (int)(problem->len == 0 ? strlen(text) : problem->len);

    fflush(stdout);
    fprintf(stderr, "sluice %s: %.*s\n", look->name, len, text);
    return err == ERR_NOT_FOUND || err == ERR_INVALID ? EXIT_USAGE : EXIT_WRONG;
}

int
look_finish_output(const struct look *look, int code)
{
    if (fflush(stdout) == 0 && ferror(stdout) == 0) {
        return code;
    }
    fprintf(stderr, "sluice %s: the output cannot be written: %s\n", look->name, strerror(errno));
    return EXIT_WRONG;
}

static int
open_and_run(struct look *look, struct log_progress *progress,
             int (*body)(struct look *look, void *arg), void *arg)
{
    struct buffer problem = BUFFER_EMPTY;
    enum err err = log_view_open(&look->view, look->options.wal_dir, &problem);
    int code;

    if (err == ERR_OK) {
        log_view_watch(look->view, progress);
        code = look_finish_output(look, body(look, arg));
    } else {
        code = look_failed(look, err, &problem);
    }
    log_view_close(look->view);
    buffer_free(&problem);
    return code;
}

/* The child: dies with its parent, leaves no core and lets faults have their plain effect. */
static _Noreturn void
be_child(struct look *look, pid_t parent, struct log_progress *progress,
         int (*body)(struct look *look, void *arg), void *arg)
{
    const struct rlimit no_core = {0, 0};
    int code;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) {
        _exit(EXIT_WRONG);
    }
    setrlimit(RLIMIT_CORE, &no_core);
    for (size_t i = 0; i < ARRAY_LEN(FAULTS); i++) {
        signal(FAULTS[i], SIG_DFL);
    }
    code = open_and_run(look, progress, body, arg);
    options_free(&look->options);
    exit(code);
}

static int
judge_end(const struct look *look, int status, const struct log_progress *progress)
{
    int number;

    if (WIFEXITED(status)) {
        return WEXITSTATUS(status);
    }
    number = WTERMSIG(status);
    for (size_t i = 0; i < ARRAY_LEN(FAULTS); i++) {
        if (number != FAULTS[i]) {
            continue;
        }
        fprintf(stderr,
                "sluice %s: reading %s ended with signal %d (%s) after seq %" PRIu64
                ": a page of the log's file is damaged or cut off\n",
                look->name, progress->step[0] == '\0' ? "the first pages" : progress->step, number,
                strsignal(number), progress->seq);
        return EXIT_WRONG;
    }
    /* As if there were no child: SIGPIPE of a pager that was left, SIGINT, SIGTERM. */
    signal(number, SIG_DFL);
    raise(number);
    return EXIT_WRONG;
}

static int
run_in_child(struct look *look, int (*body)(struct look *look, void *arg), void *arg)
{
    struct log_progress *progress =
        /* cppcheck-suppress invalidFunctionArg ; -1 is what an anonymous mapping asks for */
        mmap(NULL, sizeof(*progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    const pid_t parent = getpid();
    pid_t child;
    int status = 0;
    int code;

    if (progress == MAP_FAILED) {
        fprintf(stderr, "sluice %s: %s\n", look->name, strerror(errno));
        return EXIT_WRONG;
    }
    fflush(stdout);
    child = fork();
    if (child == 0) {
        be_child(look, parent, progress, body, arg);
    }
    if (child < 0 || (waitpid(child, &status, 0) < 0 && errno != EINTR)) {
        fprintf(stderr, "sluice %s: %s\n", look->name, strerror(errno));
        code = EXIT_WRONG;
    } else {
        code = judge_end(look, status, progress);
    }
    munmap(progress, sizeof(*progress));
    return code;
}

int
look_run(const char *name, const struct flag_table *flags, int argc, char **argv,
         enum err (*check)(struct look *look, void *arg, struct buffer *problem),
         int (*body)(struct look *look, void *arg), void *arg)
{
    struct look look = {.name = name};
    struct buffer problem = BUFFER_EMPTY;
    enum err err;
    int code;

    ASSERT(flags->count <= LOOK_FLAGS_MAX);
    log_setup(LOG_WARN, LOG_TEXT, STDERR_FILENO);
    err = flags_take(flags, &argc, argv, look.value, &problem);
    if (err == ERR_OK) {
        err = options_read(&look.options, argc, argv, &problem);
    }
    if (err == ERR_OK && check != NULL) {
        err = check(&look, arg, &problem);
    }
    if (err == ERR_OK) {
        code = run_in_child(&look, body, arg);
    } else {
        look_failed(&look, err, &problem);
        code = EXIT_USAGE;
    }
    options_free(&look.options);
    buffer_free(&problem);
    return code;
}
