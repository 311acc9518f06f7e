/*
 * import_event.h - an element of a file becomes a line of a bulk that may be sent again and again.
 *
 * What the server would give a fresh id, and so store anew each time it is sent, gets an id here:
 * the import's name and the element's line. The server's own decoder tells which elements those
 * are, and refuses beforehand what the server would refuse anyway. Any thread.
 */
#ifndef SLUICE_CLI_IMPORT_EVENT_H
#define SLUICE_CLI_IMPORT_EVENT_H

#include "core/base/buffer.h"
#include "core/event/decode.h"

/*
 * Appends TEXT and a line end to OUT. ERR_INVALID: it is no event, *ERROR says why; ERR_NO_MEMORY.
 * Either leaves OUT as it was. SCRATCH is the caller's, for this to use.
 */
MUST_CHECK enum err import_event_append(struct span text, const char *name, uint64_t line,
                                        struct buffer *scratch, struct buffer *out,
                                        struct decode_error *error);

#endif
