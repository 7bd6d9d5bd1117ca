/* Whether policy.c computes here what the bundle does in ONNX Runtime:

       $check

   It ends with 0 if all numbers agree, and with 1 otherwise. */
#include "policy.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define COUNT $count
#define STEPS (${PREFIX}_NUM_NOISES * ${PREFIX}_NUM_CANDIDATES * ${PREFIX}_ACTION_SIZE)

$vectors

static float largest_error(int count, int width, const float *found, const float *expected,
                           const float *low, const float *high)
{
    float largest = 0.0f;
    int i;
    for (i = 0; i < count; i++) {
        /* Which may be wider than a float. */
        const double range = (double)high[i % width] - (double)low[i % width];
        const double difference = fabs((double)found[i] - (double)expected[i]);
        const float error = (float)(difference / (range > 0.0 ? range : 1.0));
        largest = error > largest || error != error ? error : largest;
    }
    return largest;
}

int main(void)
{
    static ${prefix}_noise noise;
    static ${prefix}_scratch scratch;
    static ${prefix}_decision decision;
    float action_error = 0.0f, value_error = 0.0f, error;
    int i, k;
    for (i = 0; i < COUNT; i++) {
        const float *values = q_values + i * ${PREFIX}_NUM_CANDIDATES;
        memcpy(noise.steps, steps + i * STEPS, sizeof noise.steps);
        memcpy(noise.selection, selection + i * ${PREFIX}_NUM_CANDIDATES, sizeof noise.selection);
        if (${prefix}_decide(observations + i * ${PREFIX}_OBSERVATION_SIZE, &noise, &scratch,
                             &decision) != ${PREFIX}_OK) {
            printf("decision %d failed\n", i);
            return 1;
        }
        error = largest_error(${PREFIX}_ACTION_SIZE, ${PREFIX}_ACTION_SIZE, decision.action,
                              actions + i * ${PREFIX}_ACTION_SIZE, ${prefix}_action_low,
                              ${prefix}_action_high);
        action_error = error > action_error || error != error ? error : action_error;
        for (k = 0; k < ${PREFIX}_NUM_CANDIDATES; k++) {
            const float size = fabsf(values[k]) > 1.0f ? fabsf(values[k]) : 1.0f;
            error = fabsf(decision.q_values[k] - values[k]) / size;
            value_error = error > value_error || error != error ? error : value_error;
        }
    }
    printf("%d decisions differ from ONNX Runtime's by at most %.2g of an action's range, and %.2g "
           "of a value's size\n", COUNT, (double)action_error, (double)value_error);
    return action_error <= ${tolerance}f && value_error <= ${value_tolerance}f ? 0 : 1;
}
