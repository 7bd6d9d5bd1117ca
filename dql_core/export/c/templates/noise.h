/* A generator for the random numbers of a decision. It draws the same bits as the policy in Python
   does of numpy.random.default_rng(seed), so that a decision can be compared with that of the
   bundle. It is fast and small, and no secret: not for cryptography. */
#ifndef ${PREFIX}_NOISE_H
#define ${PREFIX}_NOISE_H

#include <stdint.h>

#include "policy.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ${prefix}_generator {
    uint64_t high, low;
    uint64_t increment_high, increment_low;
    uint32_t saved;
    int has_saved;
} ${prefix}_generator;

/* Begin a sequence: as numpy.random.default_rng(seed). */
void ${prefix}_seed(${prefix}_generator *generator, uint64_t seed);

/* Draw the noise of one decision: all of steps, and selection where it is used. Rejected draws are
   drawn again, some 2 of 100 for a normal number, so that the time varies a little. */
void ${prefix}_draw(${prefix}_generator *generator, ${prefix}_noise *noise);

#ifdef __cplusplus
}
#endif

#endif
