/* Between opening a checkpoint and opening the components of a pipeline. */
#ifndef LDS_CHECKPOINT_OPEN_H
#define LDS_CHECKPOINT_OPEN_H

#include "src/checkpoint/resolve.h"

/* Open what location leads to; location->path is taken. On failure *checkpoint is NULL. */
lds_status lds_open_location(lds_checkpoint **checkpoint, lds_location *location,
                             const lds_checkpoint_options *options, lds_error *err);

/* Open the components of the pipeline at checkpoint->dir. On failure some of them may be open. */
lds_status lds_open_pipeline(lds_checkpoint *checkpoint, const lds_checkpoint_options *options,
                             lds_error *err);

#endif
