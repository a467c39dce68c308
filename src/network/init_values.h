/* Initial values. */
#ifndef LDS_NETWORK_INIT_VALUES_H
#define LDS_NETWORK_INIT_VALUES_H

#include "src/network/network.h"

/*
 * Write the initial values of elements first to first + n of a parameter with an init rule, as dtype, to
 * data, where element first goes. dtype is the parameter's own, or any other float if that is one. Values do
 * not depend on how a parameter is cut into calls.
 */
void lds_init_fill(const lds_param *param, lds_dtype dtype, void *data, uint64_t seed, uint64_t first,
                   uint64_t n);

/* One block of Philox4x32-10. */
void lds_philox(uint32_t words[4], const uint32_t counter[4], const uint32_t key[2]);

#endif
