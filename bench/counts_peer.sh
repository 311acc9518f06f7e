#!/bin/bash
# counts_peer.sh DIR [EVENTS]: the questions of bench_counts.c asked of MariaDB as GROUP BY, over rows
# of the same make: one name, 4 channels, 20 campaigns, a million users, in order over 30 days, with an
# index by name and time as Sluice's own table has it. One line per question: the median of three.
set -euo pipefail
cd "$(dirname "$0")/.."

dir=$1
events=${2:-1000000}

sql() {
    mariadb --no-defaults --socket="$dir/s" -uroot --batch --skip-column-names "$@"
}

trap 'infra/scripts/mariadb.sh kill "$dir" >/dev/null 2>&1 || true' EXIT
infra/scripts/mariadb.sh start "$dir" -- --innodb-buffer-pool-size=1G --innodb-flush-log-at-trx-commit=0 \
    --max-statement-time=0 >/dev/null
sql <<SQL >/dev/null
CREATE DATABASE peer;
USE peer;
CREATE TABLE events (
    seq BIGINT UNSIGNED PRIMARY KEY,
    event_name VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    channel VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
    campaign_id VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
    user_id VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
    occurred_at DATETIME(6) NOT NULL
);
INSERT INTO events
    SELECT seq, 'purchase', ELT(1 + FLOOR(RAND(1) * 4), 'web', 'ios', 'android', 'email'),
           CONCAT('campaign-', FLOOR(RAND(2) * 20)), CONCAT('user-', FLOOR(RAND(3) * 1000000)),
           '2023-11-14' + INTERVAL seq * 2592000.0 / $events SECOND
    FROM seq_1_to_$events;
ALTER TABLE events ADD INDEX (event_name, occurred_at);
ANALYZE TABLE events;
SQL

ask() { # NAME EXPRESSION
    local times
    times=$(for _ in 1 2 3; do
        sql peer <<SQL | tail -n 1
SET @began = SYSDATE(6);
CREATE TEMPORARY TABLE answer AS
    SELECT $2 AS group_value, COUNT(*), COUNT(DISTINCT user_id) FROM events
    WHERE event_name = 'purchase' AND occurred_at >= '2023-11-14' AND occurred_at < '2023-12-15'
    GROUP BY 1;
SELECT TIMESTAMPDIFF(MICROSECOND, @began, SYSDATE(6));
SQL
    done | sort -n | sed -n 2p)
    printf 'counts work=query server=mariadb group_by=%s events=%s tail=0 total=%s p50_us=%s\n' \
        "$1" "$events" "$events" "$times"
}

ask total "'all'"
ask channel channel
ask campaign campaign_id
ask day 'DATE(occurred_at)'
ask hour "DATE_FORMAT(occurred_at, '%Y-%m-%d %H')"
