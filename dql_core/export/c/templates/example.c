/* One period of a controller: what update() of a ros2_control controller, or the timer of a
   microcontroller, would do. Nothing here allocates or waits.

       gcc -std=c99 -pedantic -O2 -o example example.c policy.c noise.c -lm && ./example */
#include <stdio.h>

#include "noise.h"
#include "policy.h"

/* What is needed from one period to the next; a member of the controller. */
typedef struct controller {
    ${prefix}_generator generator;
    ${prefix}_noise noise;
    ${prefix}_scratch scratch;
    ${prefix}_decision decision;
    float command[${PREFIX}_ACTION_SIZE];
} controller;

static float between(float low, float value, float high)
{
    return value < low ? low : (value > high ? high : value);
}

/* Set the command of this period: return 0, or 1 where the policy may not act. Then send the
   robot's safe command, on_fault of its contract, which this file cannot know. */
static int update(controller *self, const float *observation, float period_s)
{
    int i;
    for (i = 0; i < ${PREFIX}_OBSERVATION_SIZE; i++) {
        /* Also where it is no number. */
        if (!(observation[i] >= ${prefix}_observation_low[i] &&
              observation[i] <= ${prefix}_observation_high[i])) {
            return 1;
        }
    }
    ${prefix}_draw(&self->generator, &self->noise);
    if (${prefix}_decide(observation, &self->noise, &self->scratch, &self->decision) !=
        ${PREFIX}_OK) {
        return 1;
    }
    for (i = 0; i < ${PREFIX}_ACTION_SIZE; i++) {
        const float change = ${prefix}_action_max_rate[i] < 1e30f
                                 ? ${prefix}_action_max_rate[i] * period_s
                                 : 1e30f;
        self->command[i] = between(self->command[i] - change, self->decision.action[i],
                                   self->command[i] + change);
    }
    return 0;
}

int main(void)
{
    static controller self;
    int period, i;
    ${prefix}_seed(&self.generator, 0);
    for (i = 0; i < ${PREFIX}_ACTION_SIZE; i++) {
        self.command[i] = between(${prefix}_action_low[i], 0.0f, ${prefix}_action_high[i]);
    }
    for (period = 0; period < 10; period++) {
        /* A robot's would come from its sensors, field by field as the enum in policy.h says. */
        const float *observation = ${prefix}_observation_mean;
        const float period_s = ${PREFIX}_RATE_HZ > 0.0 ? (float)(1.0 / ${PREFIX}_RATE_HZ) : 0.01f;
        if (update(&self, observation, period_s) != 0) {
            printf("the policy may not act: the safe command\n");
            continue;
        }
        for (i = 0; i < ${PREFIX}_ACTION_SIZE; i++) {
            printf("%s%.4f", i > 0 ? " " : "", (double)self.command[i]);
        }
        printf("\n");
    }
    return 0;
}
