#include "core/slo/slo_warm.h"

#include "core/slo/series_names.h"

void
slo_warm_up(struct slices *slices, const struct objective_set *objectives,
            const struct slo_config *defaults, int64_t now_us)
{
    struct series_names names = {BUFFER_EMPTY};
    struct slo_service figures;
    struct span tenant;
    struct span service;
    enum err err = ERR_OK;
    size_t at = 0;

    slices_each_series(slices, series_names_add, &names);
    while (err == ERR_OK && series_names_next(&names, &at, &tenant, &service)) {
        err =
            slo_service_figures(slices, objective_set_config(objectives, defaults, tenant, service),
                                tenant, service, now_us, &figures);
    }
    series_names_clear(&names);
}
