/*
 * failing_alloc.h - lets a test make the N-th allocation from now fail, and all after it.
 *
 * Replaces the C library's allocation functions in the program that includes it (once). Sanitizers
 * bring their own, so there FAILING_ALLOC is 0 and tests that need it are skipped.
 */
#ifndef SLUICE_TESTS_UNIT_FAILING_ALLOC_H
#define SLUICE_TESTS_UNIT_FAILING_ALLOC_H

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define FAILING_ALLOC 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define FAILING_ALLOC 0
#endif
#endif
#ifndef FAILING_ALLOC
#define FAILING_ALLOC 1
#endif

#if FAILING_ALLOC

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *block, size_t size);

static _Thread_local long allocations_left = -1; /* negative: no limit */

static int
allocation_fails(void)
{
    if (allocations_left < 0) {
        return 0;
    }
    if (allocations_left == 0) {
        errno = ENOMEM;
        return 1;
    }
    allocations_left--;
    return 0;
}

void *
malloc(size_t size)
{
    return allocation_fails() ? NULL : __libc_malloc(size);
}

void *
calloc(size_t count, size_t size)
{
    return allocation_fails() ? NULL : __libc_calloc(count, size);
}

void *
realloc(void *block, size_t size)
{
    return allocation_fails() ? NULL : __libc_realloc(block, size);
}

/* After COUNT more allocations all fail on this thread; negative: none does. */
static void
fail_allocations_after(long count)
{
    allocations_left = count;
}

#else

static void
fail_allocations_after(long count)
{
    (void)count;
}

#endif

#endif
