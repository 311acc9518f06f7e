# ratios.awk - the end of `make bench`: ratios of medians over the rounds, beside the goals.
# Reads the lines of run.sh. A goal that was not reached is shown, not hidden, and is no error.

# The run's values of KEY, under the name of what was measured.
function keep(what, key) {
    if (key in value) {
        list[what, key] = list[what, key] " " value[key]
    }
}

function median(what, key,    n, i, j, x, t) {
    n = split(list[what, key], x, " ")
    for (i = 2; i <= n; i++) {
        t = x[i] + 0
        for (j = i - 1; j >= 1 && x[j] + 0 > t; j--) {
            x[j + 1] = x[j]
        }
        x[j + 1] = t
    }
    if (n == 0) {
        return ""
    }
    return n % 2 ? x[(n + 1) / 2] : (x[n / 2] + x[n / 2 + 1]) / 2
}

# One row: A over B, and what it should be ("" for no goal): "above" or "below" BOUND.
function row(text, a, b, goal, bound,    ratio, verdict) {
    if (a == "" || b == "" || b + 0 == 0) {
        return
    }
    ratio = a / b
    verdict = ""
    if (goal == "at least") {
        verdict = ratio >= bound ? "reached" : "MISSED"
    } else if (goal == "above") {
        verdict = ratio > bound ? "reached" : "MISSED"
    } else if (goal == "below") {
        verdict = ratio < bound ? "reached" : "MISSED"
    }
    printf "%-62s %12.0f %12.0f %8.2f  %-14s %s\n", text, a, b, ratio,
        goal == "" ? "" : goal " " bound, verdict
}

{
    split("", value)
    for (i = 1; i <= NF; i++) {
        at = index($i, "=")
        value[substr($i, 1, at - 1)] = substr($i, at + 1)
    }
    if (value["load"] == "log") {
        what = "log " value["server"] " " value["group"]
    } else if (value["load"] == "counts") {
        what = "counts " value["work"] " " value["server"] " " value["group_by"] " " value["events"] (value["tail"] > 0 ? " tail" : "")
    } else if (value["load"] == "slo") {
        what = "slo " value["work"]
        services = "services" in value ? value["services"] : services
    } else if (value["load"] == "drain") {
        what = "drain " value["work"] " " value["server"]
        pending = "pending" in value ? value["pending"] : pending
    } else if (value["load"] == "bulk" || value["load"] == "reading") {
        what = value["load"] " " value["server"] " " value["work"]
    } else {
        what = value["load"] " " value["server"] " " value["body"] " " value["connections"]
        if (!(value["connections"] in seen)) {
            seen[value["connections"]] = 1
            order[++sizes] = value["connections"]
        }
        if ("rate" in value) {
            rate = value["rate"]
        }
    }
    keep(what, "req_s")
    keep(what, "events_s")
    keep(what, "ns_event")
    keep(what, "p50_us")
    keep(what, "p99_us")
    keep(what, "p999_us")
    keep(what, "cpu_ms")
    keep(what, "wall_ms")
    keep(what, "first_ack_ms")
    keep(what, "anon_mib")
}

END {
    printf "\n%-62s %12s %12s %8s  %s\n", "medians", "Sluice", "peer", "ratio", "goal"
    for (i = 1; i <= sizes; i++) {
        n = order[i]
        sluice = median("closed sluice fixed " n, "req_s")
        row("requests/s, " n " connections, beside nginx (empty 202)", sluice,
            median("closed nginx fixed " n, "req_s"),
            n == 250 || n == 64 ? "at least" : "", n == 250 ? 0.8 : 0.6)
        row("requests/s, " n " connections, beside Redis (appendfsync always)", sluice,
            median("closed redis fixed " n, "req_s"), n == 250 || n == 64 ? "above" : "", 1)
        row("requests/s, " n " connections, client ids, beside nginx",
            median("closed sluice ids " n, "req_s"), median("closed nginx ids " n, "req_s"), "", 0)
        row("p99 us, " n " connections, full load, beside a bare commit's p50",
            median("closed sluice fixed " n, "p99_us"), median("log bare-lmdb 1", "p50_us"),
            n == 64 ? "below" : "", 10)
        row("p99 us, " n " connections, " rate "/s by the clock, beside nginx",
            median("open sluice fixed " n, "p99_us"), median("open nginx fixed " n, "p99_us"), "", 0)
        row("p999 us, " n " connections, " rate "/s by the clock, beside nginx",
            median("open sluice fixed " n, "p999_us"), median("open nginx fixed " n, "p999_us"), "", 0)
    }
    row("durable events/s, NDJSON bulks of 1000, beside Redis pipelined (32), always",
        median("bulk sluice ", "events_s"), median("bulk redis ", "events_s"), "at least", 2.5)
    row("the same beside 1000000", median("bulk sluice ", "events_s"), 1000000, "at least", 1)
    row("NDJSON decoded and encoded on one core, events/s, beside 1000000",
        median("reading sluice encode", "events_s"), 1000000, "at least", 1)
    split("channel day hour campaign", questions, " ")
    for (i = 1; i <= 4; i++) {
        row("30 days of 10 M events by " questions[i] ", us, beside 50000",
            median("counts query sluice " questions[i] " 10000000 tail", "p50_us"), 50000, "below", 1)
        row("the same beside 1 M events in 30 days, with the same tail",
            median("counts query sluice " questions[i] " 10000000 tail", "p50_us"),
            median("counts query sluice " questions[i] " 1000000 tail", "p50_us"), "", 0)
        row("30 days of 1 M events by " questions[i] ", us, beside MariaDB's GROUP BY",
            median("counts query sluice " questions[i] " 1000000", "p50_us"),
            median("counts query mariadb " questions[i] " 1000000", "p50_us"), "below", 1)
    }
    row("counting an event on the committer's thread, ns, beside 150",
        median("counts add   10000000", "ns_event"), 150, "below", 1)
    row("SLO status of " services " services, first after a start, ms, beside 50",
        median("slo status_all_first", "wall_ms"), 50, "below", 1)
    row("the same with new events in each, ms, beside 50",
        median("slo status_all_again", "wall_ms"), 50, "below", 1)
    row("the same a minute later, ms, beside 50",
        median("slo status_all_next_minute", "wall_ms"), 50, "below", 1)
    row("SLO status of one service, us, beside summing its minutes",
        1000 * median("slo status_one", "wall_ms"), 1000 * median("slo resum_one", "wall_ms"), "", 0)
    row("a minute's tick of " services " services with MariaDB, ms, beside 100",
        median("slo tick_whole", "wall_ms"), 100, "below", 1)
    row("its rows of slo_windows, ms, beside plain sums by MariaDB",
        median("slo tick_windows", "wall_ms"), median("slo tick_peer_sql", "wall_ms"), "", 0)
    row("drain into MariaDB, events/s, beside LOAD DATA of the same rows",
        median("drain drain sluice", "events_s"), median("drain drain load-data", "events_s"), "at least", 0.8)
    row("start with " pending " events pending, ms until the first ack, beside 2000",
        median("drain start ", "first_ack_ms"), 2000, "below", 1)
    row("its memory while draining, MiB without the log's own pages, beside 256",
        median("drain start ", "anon_mib"), 256, "below", 1)
    split("1 64 256 1024", groups, " ")
    for (i = 1; i <= 4; i++) {
        row("log alone, events/s in groups of " groups[i] ", beside a bare LMDB",
            median("log sluice " groups[i], "events_s"),
            median("log bare-lmdb " groups[i], "events_s"), "", 0)
    }
    row("log alone, events/s in groups of 1024, beside 1670000",
        median("log sluice 1024", "events_s"), 1670000, "at least", 1)
}
