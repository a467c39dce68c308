/* Whether there is memory for a load, beside those that are under way in this process. */
#ifndef LDS_LOAD_ROOM_H
#define LDS_LOAD_ROOM_H

#include <stdatomic.h>

#include "src/base/error.h"

/* What one load has been promised, of which it takes a part with each byte that it reads. */
typedef struct lds_room {
    struct lds_room *next;
    uint64_t nbytes;               /* promised; 0 for a load that was not */
    uint64_t window_nbytes;        /* of it, which a smaller window would save, */
    uint64_t least_window_nbytes;  /* down to this */
    const _Atomic uint64_t *done;  /* bytes of its progress, */
    uint64_t begin_done, end_done; /* when the first and the last of it are taken */
} lds_room;

/*
 * Promise room->nbytes, or refuse with LDS_ERR_MEMORY what neither the system nor the control group has beyond what
 * other loads were promised and have not taken yet. Beyond that the kernel would kill the process. The message says
 * which window there is room for, if there is for one.
 */
lds_status lds_room_take(lds_room *room, lds_error *err);

/* The load has taken it all, or will not. Does nothing for a load that was promised none. */
void lds_room_give(lds_room *room);

#endif
