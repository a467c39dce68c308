/* Allocations that fail on demand. A test that uses it is linked with the wrappers: see meson.build. */
#ifndef TEST_FAULTS_H
#define TEST_FAULTS_H

#include <stdbool.h>
#include <stdint.h>

/* Let allocation n from here on fail, counted from 1; those after it succeed. */
void faults_arm(uint64_t n);

/* No more failures. True if there was one since faults_arm(). */
bool faults_disarm(void);

#endif
