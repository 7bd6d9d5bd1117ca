/* A policy in C99, written by dql $version. It allocates nothing, calls of the standard library
   fabsf, sqrtf, tanhf, sqrt, exp, memcpy and memset at most, and every loop has a bound that is
   known when it is compiled. */
#include "policy.h"

#include <float.h>
#include <limits.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__FAST_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__ > 0)
#error "compile without -ffast-math and -Ofast: they take out the checks for numbers that are none"
#endif
#if INT_MAX < 2147483647
#error "int must have 32 bits"
#endif

#ifdef __cplusplus
#define RESTRICT
#else
#define RESTRICT restrict
#endif
#define TILE ${PREFIX}_TILE

$tables
$weights
$functions
static int all_finite(int count, const float *x)
{
    int i;
    for (i = 0; i < count; i++) {
        if (!(fabsf(x[i]) <= FLT_MAX)) {
            return 0;
        }
    }
    return 1;
}

enum ${prefix}_status ${prefix}_decide(const float observation[${PREFIX}_OBSERVATION_SIZE],
    const ${prefix}_noise *noise, ${prefix}_scratch *scratch, ${prefix}_decision *decision)
{
    int first, rows, i$chosen;
    float action[${PREFIX}_ACTION_SIZE];
    if (!all_finite(${PREFIX}_OBSERVATION_SIZE, observation)) {
        return ${PREFIX}_OBSERVATION_NOT_FINITE;
    }
$noise_check$observe
$shared
    for (first = 0; first < ${PREFIX}_NUM_CANDIDATES; first += rows) {
        rows = ${PREFIX}_NUM_CANDIDATES - first < TILE ? ${PREFIX}_NUM_CANDIDATES - first : TILE;
$take_noise$candidate
    }
$choice
    if (!all_finite(${PREFIX}_NUM_CANDIDATES, decision->q_values) ||
        !all_finite(${PREFIX}_ACTION_SIZE, action)) {
        return ${PREFIX}_RESULT_NOT_FINITE;
    }
    memcpy(decision->action, action, sizeof action);
    return ${PREFIX}_OK;
}
