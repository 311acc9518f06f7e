/*
 * Sources: MySQL 8.0 Error Message Reference and MariaDB Error Code Reference. Numbers from 2000 to
 * 2999 are the client library's, the others the server's.
 */
#include "storage/mysql_errors.h"

#include <stddef.h>

#include "core/base/base.h"

struct known {
    unsigned number;
    enum mysql_class class;
};

/* Whatever is not listed is MYSQL_CLASS_WAIT; some of those are listed where one might expect else.
 */
static const struct known KNOWN[] = {
    /* Another transaction was in the way. 1205 rolls back only the statement. */
    {1020, MYSQL_CLASS_RETRY}, /* record has changed since last read */
    {1205, MYSQL_CLASS_RETRY}, /* lock wait timeout */
    {1213, MYSQL_CLASS_RETRY}, /* deadlock; also a Galera certification conflict */
    {1412, MYSQL_CLASS_RETRY}, /* table definition has changed */
    {1613, MYSQL_CLASS_RETRY}, /* XA: rolled back, took too long */
    {1614, MYSQL_CLASS_RETRY}, /* XA: rolled back, deadlock */
    {1615, MYSQL_CLASS_RETRY}, /* statement needs to be prepared again */
    {3101, MYSQL_CLASS_RETRY}, /* group replication rolled back */
    {3572, MYSQL_CLASS_RETRY}, /* lock not available at once */
    /* The statement was ended by somebody or by a time limit; the connection lives. */
    {1317, MYSQL_CLASS_RETRY}, /* KILL QUERY */
    {1969, MYSQL_CLASS_RETRY}, /* max_statement_time (MariaDB) */
    {3024, MYSQL_CLASS_RETRY}, /* max_execution_time (MySQL) */

    /* The connection is gone, or out of step, or was never made. */
    {1053, MYSQL_CLASS_RECONNECT}, /* server shutdown in progress */
    {1077, MYSQL_CLASS_RECONNECT}, /* normal shutdown */
    {1079, MYSQL_CLASS_RECONNECT}, /* shutdown complete */
    {1080, MYSQL_CLASS_RECONNECT}, /* forcing close of thread */
    {1152, MYSQL_CLASS_RECONNECT}, /* aborted connection */
    {1156, MYSQL_CLASS_RECONNECT}, /* packets out of order */
    {1157, MYSQL_CLASS_RECONNECT}, /* cannot uncompress packet */
    {1158, MYSQL_CLASS_RECONNECT}, /* error reading packets */
    {1159, MYSQL_CLASS_RECONNECT}, /* timeout reading packets */
    {1160, MYSQL_CLASS_RECONNECT}, /* error writing packets */
    {1161, MYSQL_CLASS_RECONNECT}, /* timeout writing packets */
    {1184, MYSQL_CLASS_RECONNECT}, /* aborted connection */
    {1927, MYSQL_CLASS_RECONNECT}, /* connection was killed (MariaDB) */
    {3169, MYSQL_CLASS_RECONNECT}, /* session was killed (MySQL) */
    {4031, MYSQL_CLASS_RECONNECT}, /* closed for inactivity (MySQL) */
    {2000, MYSQL_CLASS_RECONNECT}, /* unknown error of the client library */
    {2001, MYSQL_CLASS_RECONNECT}, /* cannot create a socket */
    {2002, MYSQL_CLASS_RECONNECT}, /* cannot connect, local */
    {2003, MYSQL_CLASS_RECONNECT}, /* cannot connect, TCP */
    {2005, MYSQL_CLASS_RECONNECT}, /* unknown host */
    {2006, MYSQL_CLASS_RECONNECT}, /* server has gone away */
    {2012, MYSQL_CLASS_RECONNECT}, /* error in the handshake */
    {2013, MYSQL_CLASS_RECONNECT}, /* connection lost during a query */
    {2014, MYSQL_CLASS_RECONNECT}, /* commands out of sync */
    {2026, MYSQL_CLASS_RECONNECT}, /* TLS failed */
    {2027, MYSQL_CLASS_RECONNECT}, /* malformed packet */
    {2055, MYSQL_CLASS_RECONNECT}, /* connection lost, with a system error */
    {5013, MYSQL_CLASS_RECONNECT}, /* network read error (MariaDB's library) */
    {5014, MYSQL_CLASS_RECONNECT}, /* network write error (MariaDB's library) */

    /* Something of the schema is missing or has been altered. */
    {1046, MYSQL_CLASS_SCHEMA}, /* no database selected */
    {1049, MYSQL_CLASS_SCHEMA}, /* unknown database */
    {1054, MYSQL_CLASS_SCHEMA}, /* unknown column */
    {1136, MYSQL_CLASS_SCHEMA}, /* column count does not match */
    {1146, MYSQL_CLASS_SCHEMA}, /* no such table */
    {1364, MYSQL_CLASS_SCHEMA}, /* a column we do not know of has no default */
    {1932, MYSQL_CLASS_SCHEMA}, /* table does not exist in the engine */

    /* Rights, limits, space, modes: listed because they are common, not because it is needed. */
    {1021, MYSQL_CLASS_WAIT}, /* disk full */
    {1026, MYSQL_CLASS_WAIT}, /* error writing a file */
    {1030, MYSQL_CLASS_WAIT}, /* error from the storage engine */
    {1036, MYSQL_CLASS_WAIT}, /* table is read only */
    {1037, MYSQL_CLASS_WAIT}, /* server out of memory */
    {1040, MYSQL_CLASS_WAIT}, /* too many connections */
    {1041, MYSQL_CLASS_WAIT}, /* server out of resources */
    {1044, MYSQL_CLASS_WAIT}, /* access to the database denied */
    {1045, MYSQL_CLASS_WAIT}, /* access denied */
    {1047, MYSQL_CLASS_WAIT}, /* Galera: this member has not joined */
    {1105, MYSQL_CLASS_WAIT}, /* unknown error of the server */
    {1114, MYSQL_CLASS_WAIT}, /* table is full */
    {1129, MYSQL_CLASS_WAIT}, /* host is blocked */
    {1142, MYSQL_CLASS_WAIT}, /* command denied on the table */
    {1143, MYSQL_CLASS_WAIT}, /* command denied on a column */
    {1180, MYSQL_CLASS_WAIT}, /* error during COMMIT */
    {1203, MYSQL_CLASS_WAIT}, /* too many connections of this user */
    {1223, MYSQL_CLASS_WAIT}, /* a global read lock is held */
    {1226, MYSQL_CLASS_WAIT}, /* a resource limit of this user is used up */
    {1227, MYSQL_CLASS_WAIT}, /* a privilege is missing */
    {1290, MYSQL_CLASS_WAIT}, /* read_only, super_read_only */
    {1792, MYSQL_CLASS_WAIT}, /* transaction is read only */
    {1836, MYSQL_CLASS_WAIT}, /* read only mode */
    {3032, MYSQL_CLASS_WAIT}, /* offline mode */
    {3100, MYSQL_CLASS_WAIT}, /* a replication hook refused */

    /* Too much at once. */
    {1153, MYSQL_CLASS_SPLIT}, /* packet larger than max_allowed_packet, told by the server */
    {1197, MYSQL_CLASS_SPLIT}, /* transaction larger than max_binlog_cache_size */
    {1206, MYSQL_CLASS_SPLIT}, /* more locks than the lock table holds */
    {1713, MYSQL_CLASS_SPLIT}, /* undo log record too large */
    {2020, MYSQL_CLASS_SPLIT}, /* packet too large, told by the client library */

    /* The data itself, in strict mode. */
    {1048, MYSQL_CLASS_POISON}, /* column cannot be NULL */
    {1118, MYSQL_CLASS_POISON}, /* row too large */
    {1216, MYSQL_CLASS_POISON}, /* foreign key, no parent row */
    {1264, MYSQL_CLASS_POISON}, /* out of range for the column */
    {1265, MYSQL_CLASS_POISON}, /* data truncated */
    {1292, MYSQL_CLASS_POISON}, /* incorrect value */
    {1300, MYSQL_CLASS_POISON}, /* invalid character string */
    {1366, MYSQL_CLASS_POISON}, /* incorrect value for the column, also its character set */
    {1367, MYSQL_CLASS_POISON}, /* illegal value found while parsing */
    {1369, MYSQL_CLASS_POISON}, /* CHECK OPTION of a view failed */
    {1406, MYSQL_CLASS_POISON}, /* data too long */
    {1411, MYSQL_CLASS_POISON}, /* incorrect value for a function */
    {1452, MYSQL_CLASS_POISON}, /* foreign key, no parent row */
    {1526, MYSQL_CLASS_POISON}, /* no partition for the value */
    {1644, MYSQL_CLASS_POISON}, /* SIGNAL of a trigger */
    {1690, MYSQL_CLASS_POISON}, /* out of range in an expression */
    {3140, MYSQL_CLASS_POISON}, /* invalid JSON text (MySQL) */
    {3156, MYSQL_CLASS_POISON}, /* invalid JSON value for a cast (MySQL) */
    {3157, MYSQL_CLASS_POISON}, /* JSON document too deep (MySQL) */
    {3819, MYSQL_CLASS_POISON}, /* CHECK constraint (MySQL) */
    {3903, MYSQL_CLASS_POISON}, /* invalid JSON value for a functional index (MySQL) */
    {4025, MYSQL_CLASS_POISON}, /* CHECK constraint (MariaDB) */
    {4035, MYSQL_CLASS_POISON}, /* JSON: broken character (MariaDB) */
    {4036, MYSQL_CLASS_POISON}, /* JSON: character not allowed (MariaDB) */
    {4037, MYSQL_CLASS_POISON}, /* JSON: unexpected end (MariaDB) */
    {4038, MYSQL_CLASS_POISON}, /* JSON: syntax (MariaDB) */
    {4039, MYSQL_CLASS_POISON}, /* JSON: escaping (MariaDB) */
    {4040, MYSQL_CLASS_POISON}, /* JSON: too deep (MariaDB) */

    {1062, MYSQL_CLASS_DUPLICATE}, /* duplicate entry for a key */
    {1586, MYSQL_CLASS_DUPLICATE}, /* duplicate entry for a key, with its name */
};

enum mysql_class
mysql_classify(unsigned number)
{
    for (size_t i = 0; i < ARRAY_LEN(KNOWN); i++) {
        if (KNOWN[i].number == number) {
            return KNOWN[i].class;
        }
    }
    return MYSQL_CLASS_WAIT;
}

bool
mysql_load_is_refused(unsigned number)
{
    static const unsigned REFUSALS[] = {
        1148, /* not allowed (older servers) */
        1235, /* not supported, as some proxies say */
        2068, /* the client library refuses */
        3948, /* disabled (MySQL) */
        4166, /* disabled (MariaDB) */
    };

    for (size_t i = 0; i < ARRAY_LEN(REFUSALS); i++) {
        if (REFUSALS[i] == number) {
            return true;
        }
    }
    return false;
}

bool
mysql_text_quotes_data(unsigned number)
{
    const enum mysql_class class = mysql_classify(number);

    return class == MYSQL_CLASS_POISON || class == MYSQL_CLASS_DUPLICATE || number == 1064;
}
