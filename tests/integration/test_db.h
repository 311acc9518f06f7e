/*
 * test_db.h - a real MariaDB for integration tests, and the test's own session on it.
 *
 * A server given by the environment (TEST_DB_SOCKET, TEST_DB_USER, TEST_DB_PASSWORD) is used as it
 * is; else infra/scripts/mariadb.sh starts one in a fresh directory. Tests that kill or reconfigure
 * a server start one of their own. Programs run from the root of the source tree. Include cmocka
 * first.
 */
#ifndef SLUICE_TESTS_INTEGRATION_TEST_DB_H
#define SLUICE_TESTS_INTEGRATION_TEST_DB_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/base.h"
#include "storage/mysql_connect.h"

struct test_db {
    char dir[64]; /* empty when the server is somebody else's */
    char socket[108];
    const char *user;
    const char *password;
};

/* Runs "mariadb.sh ACTION DIR OPTIONS" on a server of our own. */
static inline bool
test_db_action(const struct test_db *db, const char *action, const char *options)
{
    char command[256];

    snprintf(command, sizeof command, "infra/scripts/mariadb.sh %s %s %s", action, db->dir,
             options);
    return system(command) == 0;
}

/* Ends and removes a server of our own; leaves another's alone. */
static inline void
test_db_end(struct test_db *db)
{
    char command[128];

    if (db->dir[0] == '\0') {
        return;
    }
    (void)test_db_action(db, "kill", "");
    snprintf(command, sizeof command, "rm -rf %s", db->dir);
    if (system(command) != 0) {
        print_message("could not remove %s\n", db->dir);
    }
    db->dir[0] = '\0';
}

/* Starts a new server. False, with the reason printed, when that cannot be done. */
static inline bool
test_db_start(struct test_db *db, const char *options)
{
    *db = (struct test_db){.user = "root", .password = ""};
    snprintf(db->dir, sizeof db->dir, "/tmp/sluice-test-XXXXXX");
    if (mkdtemp(db->dir) == NULL) {
        print_message("no directory for a database server\n");
        db->dir[0] = '\0';
        return false;
    }
    snprintf(db->socket, sizeof db->socket, "%s/s", db->dir);
    if (!test_db_action(db, "start", options)) {
        print_message("no database server could be started, see above\n");
        test_db_end(db);
        return false;
    }
    return true;
}

/* The environment's server, or else a new one. */
static inline bool
test_db_use(struct test_db *db)
{
    const char *socket = getenv("TEST_DB_SOCKET");
    const char *user = getenv("TEST_DB_USER");
    const char *password = getenv("TEST_DB_PASSWORD");

    if (socket == NULL || socket[0] == '\0') {
        return test_db_start(db, "");
    }
    *db = (struct test_db){
        .user = user != NULL ? user : "root",
        .password = password != NULL ? password : "",
    };
    snprintf(db->socket, sizeof db->socket, "%s", socket);
    return true;
}

/* The number in a file of our own server's directory: "pid" or "port". */
static inline int
test_db_number(const struct test_db *db, const char *name)
{
    char path[128];
    char text[32] = "";
    FILE *file;

    snprintf(path, sizeof path, "%s/%s", db->dir, name);
    file = fopen(path, "r");
    assert_non_null(file);
    assert_non_null(fgets(text, sizeof text, file));
    fclose(file);
    return (int)strtol(text, NULL, 10);
}

/* Connects as the test itself, outside any database. */
static inline MYSQL *
test_db_connect(const struct test_db *db)
{
    MYSQL *mysql = mysql_init(NULL);

    assert_non_null(mysql);
    mysql_options(mysql, MYSQL_SET_CHARSET_NAME, "utf8mb4");
    if (mysql_real_connect(mysql, NULL, db->user, db->password, NULL, 0, db->socket, 0) == NULL) {
        fail_msg("cannot connect: %s", mysql_error(mysql));
    }
    return mysql;
}

/* Runs a statement that must work. */
static inline void PRINTF_LIKE(2, 3) test_db_do(MYSQL *mysql, const char *format, ...)
{
    char sql[4096];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(sql, sizeof sql, format, arguments);
    va_end(arguments);
    if (mysql_query(mysql, sql) != 0) {
        fail_msg("%s: %s", sql, mysql_error(mysql));
    }
    mysql_free_result(mysql_store_result(mysql));
}

/* Runs a query for one value into TEXT: "NULL" for NULL, "" for no row. Returns TEXT. */
static inline const char *
test_db_ask(MYSQL *mysql, char *text, size_t size, const char *sql)
{
    MYSQL_RES *result;
    MYSQL_ROW row;

    if (mysql_query(mysql, sql) != 0) {
        fail_msg("%s: %s", sql, mysql_error(mysql));
    }
    result = mysql_store_result(mysql);
    assert_non_null(result);
    row = mysql_fetch_row(result);
    snprintf(text, size, "%s", row == NULL ? "" : row[0] == NULL ? "NULL" : row[0]);
    mysql_free_result(result);
    return text;
}

#endif
