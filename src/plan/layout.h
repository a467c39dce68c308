/* Places in a plan's arena. */
#ifndef LDS_PLAN_LAYOUT_H
#define LDS_PLAN_LAYOUT_H

#include "src/plan/plan.h"

/* Give each target that goes into the arena its offset there, and the arena its size. */
lds_status lds_plan_lay_out(lds_plan *plan, lds_error *err);

#endif
