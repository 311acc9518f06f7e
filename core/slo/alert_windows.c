#include "core/slo/alert_windows.h"

void
alert_windows_open(struct alert_windows *windows, struct slices *slices, struct span tenant,
                   struct span service, int64_t now_us, int64_t future_us)
{
    windows->slices = slices;
    windows->tenant = tenant;
    windows->service = service;
    windows->now_us = now_us;
    windows->now = minute_of_us(now_us) + 1;
    windows->end = minute_of_us(now_us + future_us) + 1;
    windows->count = 0;
}

void
alert_windows_close(struct alert_windows *windows)
{
    for (uint32_t i = 0; i < windows->count; i++) {
        slice_clear(&windows->item[i].sum);
    }
}

enum err
alert_windows_get(void *arg, int64_t minutes, struct alert_window *out)
{
    struct alert_windows *windows = arg;
    struct alert_window_sum *item = windows->item;
    struct slice_measure measure;
    enum err err;

    while (item < windows->item + windows->count && item->minutes != minutes) {
        item++;
    }
    if (item == windows->item + windows->count) {
        ASSERT(windows->count < ALERT_WINDOWS_MAX);
        *item = (struct alert_window_sum){.minutes = minutes};
        err = slices_sum_counts(windows->slices, windows->tenant, windows->service,
                                windows->now - minutes, windows->end, &item->sum);
        if (err != ERR_OK) {
            slice_clear(&item->sum);
            return err;
        }
        windows->count++;
    }
    measure = slo_measure(windows->objective);
    slice_good_bad(&item->sum, &measure, &out->good, &out->bad);
    return ERR_OK;
}

enum err
alert_view_fill(struct alert_view *view, struct alert_windows *windows,
                const struct slo_objective *objective, enum alert_severity severity,
                const struct alert_state *state)
{
    struct alert_rule rules[ALERT_RULES];
    enum err err;

    *view = (struct alert_view){
        .tenant = windows->tenant,
        .service = windows->service,
        .objective = objective,
        .severity = severity,
        .state = *state,
    };
    windows->objective = objective;
    err = alert_windows_get(windows, windows->now - slo_window_from(objective, windows->now_us),
                            &view->period);
    alert_rules(objective->window_minutes, rules);
    for (unsigned i = 0; err == ERR_OK && i < ALERT_RULES; i++) {
        struct alert_reading *reading = &view->reading[view->reading_count];

        if (rules[i].severity != severity) {
            continue;
        }
        *reading = (struct alert_reading){.rule = rules[i],
                                          .threshold = alert_threshold(&rules[i], objective)};
        view->rule_number[view->reading_count++] = (uint8_t)i;
        err = alert_windows_get(windows, rules[i].long_minutes, &reading->long_window);
        if (err == ERR_OK) {
            err = alert_windows_get(windows, rules[i].short_minutes, &reading->short_window);
        }
    }
    return err;
}
