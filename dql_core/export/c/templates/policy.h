/* A policy in C99, written by dql $version of the bundle with the SHA-256
   $sha256.
   README.md says how to use it. */
#ifndef ${PREFIX}_POLICY_H
#define ${PREFIX}_POLICY_H

#ifdef __cplusplus
extern "C" {
#endif

#define ${PREFIX}_OBSERVATION_SIZE $observation_size
#define ${PREFIX}_ACTION_SIZE $action_size
#define ${PREFIX}_NUM_CANDIDATES $num_candidates
/* Standard normal numbers of a candidate for each number of its action. */
#define ${PREFIX}_NUM_NOISES $num_noises
/* Whether the action depends on noise->steps, and on noise->selection. */
#define ${PREFIX}_USES_STEPS $uses_steps
#define ${PREFIX}_USES_SELECTION $uses_selection
/* How often a second the policy was trained to decide; 0 if that is not known. */
#define ${PREFIX}_RATE_HZ $rate_hz
/* Candidates that are computed at once: fewer take less memory and more time. Give another number
   to the compiler (-D${PREFIX}_TILE=1), the same for all files. */
#ifndef ${PREFIX}_TILE
#define ${PREFIX}_TILE $tile
#endif

/* Where each number of an observation is. */
enum ${prefix}_observed {
$observed
};

/* Where each number of an action is. */
enum ${prefix}_commanded {
$commanded
};

enum ${prefix}_status {
    ${PREFIX}_OK = 0,
    ${PREFIX}_OBSERVATION_NOT_FINITE = 1,
    ${PREFIX}_NOISE_NOT_FINITE = 2,
    ${PREFIX}_RESULT_NOT_FINITE = 3
};

/* The random numbers of a decision. Equal ones give equal decisions. */
typedef struct ${prefix}_noise {
    /* Standard normal; [(i * NUM_CANDIDATES + k) * ACTION_SIZE + j] is draw i of candidate k. */
    float steps[${PREFIX}_NUM_NOISES * ${PREFIX}_NUM_CANDIDATES * ${PREFIX}_ACTION_SIZE];
    /* Standard Gumbel. */
    float selection[${PREFIX}_NUM_CANDIDATES];
} ${prefix}_noise;

/* Memory for a decision; what it holds before and after is of no interest. */
typedef struct ${prefix}_scratch {
    float shared[$shared_size];
    float tile[$tile_size * ${PREFIX}_TILE];
    float choice[$choice_size];
$more_scratch} ${prefix}_scratch;

typedef struct ${prefix}_decision {
    /* In the units of the robot's contract and within its bounds. */
    float action[${PREFIX}_ACTION_SIZE];
    /* What the critics say of each candidate; zeros of a policy without critics. */
    float q_values[${PREFIX}_NUM_CANDIDATES];
    /* [k * ACTION_SIZE + j] is number j of candidate k. */
    float candidates[${PREFIX}_NUM_CANDIDATES * ${PREFIX}_ACTION_SIZE];
} ${prefix}_decision;

/* Choose an action for an observation in the units of the robot's contract.

   A pure function that keeps nothing: several threads may call it, each with a scratch and a
   decision of its own. ${noise_note}Whatever is returned but ${PREFIX}_OK, decision->action is as
   it was before, and must not be sent. */
enum ${prefix}_status ${prefix}_decide(const float observation[${PREFIX}_OBSERVATION_SIZE],
    const ${prefix}_noise *noise, ${prefix}_scratch *scratch, ${prefix}_decision *decision);

/* The names and units of the numbers, as the contract has them. */
extern const char *const ${prefix}_observation_names[${PREFIX}_OBSERVATION_SIZE];
extern const char *const ${prefix}_observation_units[${PREFIX}_OBSERVATION_SIZE];
extern const char *const ${prefix}_action_names[${PREFIX}_ACTION_SIZE];
extern const char *const ${prefix}_action_units[${PREFIX}_ACTION_SIZE];

/* The contract's limits, FLT_MAX where it has none. An observation beyond its own is that of a
   broken sensor: send the robot's safe command, which is in its contract and not in here. */
extern const float ${prefix}_observation_low[${PREFIX}_OBSERVATION_SIZE];
extern const float ${prefix}_observation_high[${PREFIX}_OBSERVATION_SIZE];
extern const float ${prefix}_action_low[${PREFIX}_ACTION_SIZE];
extern const float ${prefix}_action_high[${PREFIX}_ACTION_SIZE];
/* The largest change of a command in a second. */
extern const float ${prefix}_action_max_rate[${PREFIX}_ACTION_SIZE];

/* Mean and spread of the observations that the policy was trained on. */
extern const float ${prefix}_observation_mean[${PREFIX}_OBSERVATION_SIZE];
extern const float ${prefix}_observation_std[${PREFIX}_OBSERVATION_SIZE];

#ifdef __cplusplus
}
#endif

#endif
