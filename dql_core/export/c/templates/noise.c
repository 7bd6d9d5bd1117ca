/* The random numbers of a decision; see noise.h. Of the standard library it calls log, log1pf and
   exp. */
#include "noise.h"

#include <math.h>

/* The normal distribution as a pile of layers of equal area: below which draw a number lies in its
   layer for certain, a layer's width, and the density at its edge. */
$normal_tables
#define TAIL 3.65415288f
#define PER_TAIL 0.273661237f

/* The state times a constant plus the increment, of 128 bits each (O'Neill's PCG). */
static void step(${prefix}_generator *generator)
{
    const uint64_t factor_high = (uint64_t)0x2360ED05u << 32 | 0x1FC65DA4u;
    const uint64_t factor_low = (uint64_t)0x4385DF64u << 32 | 0x9FCCF645u;
    const uint64_t a0 = generator->low & 0xFFFFFFFFu, a1 = generator->low >> 32;
    const uint64_t b0 = factor_low & 0xFFFFFFFFu, b1 = factor_low >> 32;
    const uint64_t low = a0 * b0, cross = a1 * b0, middle = a0 * b1 + (low >> 32);
    const uint64_t carry = (middle & 0xFFFFFFFFu) + (cross & 0xFFFFFFFFu);
    const uint64_t product_low = generator->low * factor_low;
    const uint64_t product_high = a1 * b1 + (middle >> 32) + (cross >> 32) + (carry >> 32) +
                                  generator->high * factor_low + generator->low * factor_high;
    generator->low = product_low + generator->increment_low;
    generator->high = product_high + generator->increment_high + (generator->low < product_low);
}

static uint64_t next64(${prefix}_generator *generator)
{
    uint64_t mixed;
    unsigned turn;
    step(generator);
    mixed = generator->high ^ generator->low;
    turn = (unsigned)(generator->high >> 58);
    return mixed >> turn | mixed << ((64u - turn) & 63u);
}

static uint32_t next32(${prefix}_generator *generator)
{
    uint64_t both;
    if (generator->has_saved) {
        generator->has_saved = 0;
        return generator->saved;
    }
    both = next64(generator);
    generator->has_saved = 1;
    generator->saved = (uint32_t)(both >> 32);
    return (uint32_t)(both & 0xFFFFFFFFu);
}

static float uniform(${prefix}_generator *generator)
{
    return (float)(next32(generator) >> 8) * (1.0f / 16777216.0f);
}

static float normal(${prefix}_generator *generator)
{
    for (;;) {
        const uint32_t bits = next32(generator);
        const int layer = (int)(bits & 0xFFu);
        const int32_t draw = (int32_t)(bits >> 9);
        const float size = (float)draw * widths[layer];
        const float value = bits >> 8 & 1u ? -size : size;
        if (draw < inside[layer]) {
            return value;
        }
        if (layer == 0) {
            for (;;) {
                const float beyond = -PER_TAIL * log1pf(-uniform(generator));
                const float other = -log1pf(-uniform(generator));
                if (other + other > beyond * beyond) {
                    return draw >> 8 & 1 ? -(TAIL + beyond) : TAIL + beyond;
                }
            }
        }
        {
            const float height = (heights[layer - 1] - heights[layer]) * uniform(generator) +
                                 heights[layer];
            if ((double)height < exp(-0.5 * (double)value * (double)value)) {
                return value;
            }
        }
    }
}
$gumbel
static uint32_t hashed(uint32_t value, uint32_t *constant, uint32_t factor)
{
    value ^= *constant;
    *constant *= factor;
    value *= *constant;
    return value ^ value >> 16;
}

void ${prefix}_seed(${prefix}_generator *generator, uint64_t seed)
{
    /* The seed's bits are spread over a pool of words, and the state is made of the pool. */
    uint32_t pool[4], constant = 0x43B0D7E5u, words[8];
    uint64_t state_high, state_low;
    int i, j;
    for (i = 0; i < 4; i++) {
        const uint32_t word = i < 2 ? (uint32_t)(seed >> (32 * i) & 0xFFFFFFFFu) : 0u;
        pool[i] = hashed(word, &constant, 0x931E8875u);
    }
    for (i = 0; i < 4; i++) {
        for (j = 0; j < 4; j++) {
            if (i != j) {
                const uint32_t mixed = 0xCA01F9DDu * pool[j] -
                                       0x4973F715u * hashed(pool[i], &constant, 0x931E8875u);
                pool[j] = mixed ^ mixed >> 16;
            }
        }
    }
    constant = 0x8B51F9DDu;
    for (i = 0; i < 8; i++) {
        words[i] = hashed(pool[i % 4], &constant, 0x58F38DEDu);
    }
    state_high = (uint64_t)words[1] << 32 | words[0];
    state_low = (uint64_t)words[3] << 32 | words[2];
    generator->increment_high = (uint64_t)words[5] << 32 | words[4];
    generator->increment_low = (uint64_t)words[7] << 32 | words[6];
    generator->increment_high = generator->increment_high << 1 | generator->increment_low >> 63;
    generator->increment_low = generator->increment_low << 1 | 1u;
    generator->high = generator->low = 0;
    generator->has_saved = 0;
    generator->saved = 0;
    step(generator);
    generator->low += state_low;
    generator->high += state_high + (generator->low < state_low);
    step(generator);
}

void ${prefix}_draw(${prefix}_generator *generator, ${prefix}_noise *noise)
{
    int i;
    const int count = ${PREFIX}_NUM_NOISES * ${PREFIX}_NUM_CANDIDATES * ${PREFIX}_ACTION_SIZE;
    for (i = 0; i < count; i++) {
        noise->steps[i] = normal(generator);
    }
    for (i = 0; i < ${PREFIX}_NUM_CANDIDATES; i++) {
        noise->selection[i] = $draw_selection;
    }
}
