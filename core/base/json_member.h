/*
 * json_member.h - members of a JSON object that is being written: ,"NAME":VALUE with the comma
 * before it. NAME is ours and needs no escapes. Any thread; like every append, a failure shows in
 * out->failed.
 */
#ifndef SLUICE_CORE_JSON_MEMBER_H
#define SLUICE_CORE_JSON_MEMBER_H

#include "core/base/base.h"
#include "core/base/buffer.h"

/* VALUE as a string, which must be UTF-8; null when it is absent. */
void json_member_text(struct buffer *out, const char *name, struct span value);

/*
 * VALUE, which must be valid JSON, as it is but on one line: a bare line end stands only between
 * tokens there, and becomes a space. null when it is absent.
 */
void json_member_raw(struct buffer *out, const char *name, struct span value);

/* RFC 3339 in UTC, of microseconds since 1970; null outside of TIMESTAMP_MIN_US to
 * TIMESTAMP_MAX_US. */
void json_member_time(struct buffer *out, const char *name, int64_t us);

/* The same where 0 stands for a moment that has not come: then null. */
void json_member_moment(struct buffer *out, const char *name, int64_t us);

#endif
