#include "core/base/err.h"

const char *
err_name(enum err err)
{
    switch (err) {
#define ERR_CASE(name, text)                                                                       \
    case name:                                                                                     \
        return #name;
        ERR_LIST(ERR_CASE)
#undef ERR_CASE
    }
    return "ERR_?";
}

const char *
err_text(enum err err)
{
    switch (err) {
#define ERR_CASE(name, text)                                                                       \
    case name:                                                                                     \
        return text;
        ERR_LIST(ERR_CASE)
#undef ERR_CASE
    }
    return "unknown error";
}
