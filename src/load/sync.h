/* Waiting for a disk, for as long as the caller likes. */
#ifndef LDS_LOAD_SYNC_H
#define LDS_LOAD_SYNC_H

#include "src/base/error.h"

/*
 * fsync(2), with tick called about every 50 ms meanwhile unless it is NULL; non-zero is LDS_ERR_CANCELLED. The
 * kernel goes on by itself then: fd may be closed, but its file stays until it has ended.
 */
lds_status lds_sync(int fd, int (*tick)(void *ctx), void *tick_ctx, lds_error *err);

#endif
