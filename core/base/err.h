/*
 * err.h - every error one part of Sluice can hand to another.
 *
 * A code exists when a caller acts differently on it: wait, refuse, reconnect, stop. A library's
 * own numbers (errno, LMDB, MySQL) are translated where they enter and logged there.
 */
#ifndef SLUICE_CORE_ERR_H
#define SLUICE_CORE_ERR_H

#define ERR_LIST(X)                                                                                \
    X(ERR_OK, "ok")                                                                                \
    X(ERR_AGAIN, "a bounded queue is full, try again later")                                       \
    X(ERR_FULL, "the log has reached its byte limit")                                              \
    X(ERR_CLOSED, "the part asked is stopping")                                                    \
    X(ERR_FAILED, "the log has failed and takes no more writes, nothing was stored")               \
    X(ERR_UNKNOWN, "the last write of a commit failed, it may or may not have been stored")        \
    X(ERR_INVALID, "the input is not valid")                                                       \
    X(ERR_TOO_BIG, "the input is larger than its limit")                                           \
    X(ERR_NOT_FOUND, "there is no such thing")                                                     \
    X(ERR_CORRUPT, "stored bytes do not match their checksum or format")                           \
    X(ERR_FORMAT, "stored data has a format version this build does not know")                     \
    X(ERR_IO, "an operating system call failed")                                                   \
    X(ERR_NO_MEMORY, "out of memory")                                                              \
    X(ERR_NO_SPACE, "not enough free space on the disk")                                           \
    X(ERR_LOCKED, "another process holds it")                                                      \
    X(ERR_UNAVAILABLE, "the sink cannot be reached now, waiting helps")                            \
    X(ERR_FENCED, "another instance has taken over this node's place in the sink")                 \
    X(ERR_IDENTITY, "the sink has seen records of this node that the log does not hold")           \
    X(ERR_TIMEOUT, "it did not happen in the time given")

enum err {
#define ERR_MEMBER(name, text) name,
    ERR_LIST(ERR_MEMBER)
#undef ERR_MEMBER
};

/* The code's name ("ERR_FULL") and its sentence; static strings. Any thread. */
const char *err_name(enum err err);
const char *err_text(enum err err);

#endif
