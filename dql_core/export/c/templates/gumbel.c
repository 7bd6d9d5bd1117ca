
static float gumbel(${prefix}_generator *generator)
{
    for (;;) {
        const double draw = 1.0 - (double)(next64(generator) >> 11) / 9007199254740992.0;
        if (draw < 1.0) {
            return (float)-log(-log(draw));
        }
    }
}
