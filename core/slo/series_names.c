#include "core/slo/series_names.h"

void
series_names_add(void *arg, struct span tenant, struct span service)
{
    struct series_names *names = arg;

    buffer_append_char(&names->text, (char)tenant.len);
    buffer_append_char(&names->text, (char)service.len);
    buffer_append_span(&names->text, tenant);
    buffer_append_span(&names->text, service);
}

bool
series_names_next(const struct series_names *names, size_t *at, struct span *tenant,
                  struct span *service)
{
    const char *text = names->text.data + *at;

    if (*at >= names->text.len) {
        return false;
    }
    *tenant = (struct span){text + 2, (uint8_t)text[0]};
    *service = (struct span){tenant->data + tenant->len, (uint8_t)text[1]};
    *at += 2 + tenant->len + service->len;
    return true;
}

void
series_names_clear(struct series_names *names)
{
    buffer_free(&names->text);
}
