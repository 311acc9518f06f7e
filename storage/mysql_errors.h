/*
 * mysql_errors.h - what an error number of the server or the client library asks us to do.
 *
 * The numbers are spelled out here and not taken from the library's headers, since MariaDB and
 * MySQL give different names, or none, to those that only the other one has.
 */
#ifndef SLUICE_STORAGE_MYSQL_ERRORS_H
#define SLUICE_STORAGE_MYSQL_ERRORS_H

#include <stdbool.h>

enum mysql_class {
    MYSQL_CLASS_RETRY,     /* lost a race: roll back, send the same again */
    MYSQL_CLASS_RECONNECT, /* the connection is gone or of no use */
    MYSQL_CLASS_WAIT,      /* the environment: nothing about the data, people or time mend it */
    MYSQL_CLASS_SCHEMA,    /* the same, and the schema step should look again */
    MYSQL_CLASS_SPLIT,     /* too much at once: a smaller batch may pass */
    MYSQL_CLASS_POISON,    /* a row of this batch is refused whenever it is sent */
    MYSQL_CLASS_DUPLICATE, /* a unique key holds this value already */
};

enum {
    MYSQL_NUMBER_NO_DATABASE = 1049,
    MYSQL_NUMBER_DUPLICATE_COLUMN = 1060,
    MYSQL_NUMBER_DUPLICATE = 1062,
    MYSQL_NUMBER_NO_TABLE = 1146,
    MYSQL_NUMBER_UNKNOWN = 2000,
};

/* An unknown number is MYSQL_CLASS_WAIT: never dead-letter for a reason we do not understand. */
enum mysql_class mysql_classify(unsigned number);

/* True when server or client takes no LOAD DATA LOCAL at all. */
bool mysql_load_is_refused(unsigned number);

/* True when the error's text may quote what clients sent, so it does not belong in a log. */
bool mysql_text_quotes_data(unsigned number);

#endif
