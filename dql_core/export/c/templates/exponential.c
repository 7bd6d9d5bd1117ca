/* e^x within two units of the last place, infinite above 87 and 0 below -87. It takes the same time
   for every x, and comparing bits in place of numbers lets a compiler vectorise a loop of it. */
static float exponential(float x)
{
    const uint32_t limit = 0x42AE0000u, infinite = 0x7F800000u, none = 0x7FC00000u;
    uint32_t bits, sign, size, beyond, is_none, low_bits, high_bits, special;
    int32_t power, half;
    float inside, whole, r, low, high, value;
    memcpy(&bits, &x, sizeof bits);
    sign = bits >> 31;
    size = bits & 0x7FFFFFFFu;
    /* All ones where it is so; the difference is negative there. */
    beyond = 0u - ((limit - size) >> 31);
    is_none = 0u - ((infinite - size) >> 31);
    bits = sign << 31 | (beyond & limit) | (~beyond & size);
    memcpy(&inside, &bits, sizeof inside);
    /* Adding and taking away 1.5 * 2^23 rounds to a whole number. */
    whole = inside * 1.44269504f + 12582912.0f;
    whole = whole - 12582912.0f;
    r = inside - whole * 0.693359375f + whole * 2.12194440e-4f;
    value = 1.9875691500e-4f;
    value = value * r + 1.3981999507e-3f;
    value = value * r + 8.3334519073e-3f;
    value = value * r + 4.1665795894e-2f;
    value = value * r + 1.6666665459e-1f;
    value = value * r + 5.0000001201e-1f;
    value = value * r * r + r + 1.0f;
    /* 2^whole in two factors, since one alone may be out of range. */
    power = (int32_t)whole;
    half = power / 2;
    low_bits = (uint32_t)(half + 127) << 23;
    high_bits = (uint32_t)(power - half + 127) << 23;
    memcpy(&low, &low_bits, sizeof low);
    memcpy(&high, &high_bits, sizeof high);
    value = value * low * high;
    special = (is_none & none) | (~is_none & (sign - 1u) & infinite);
    memcpy(&bits, &value, sizeof bits);
    bits = (beyond & special) | (~beyond & bits);
    memcpy(&value, &bits, sizeof value);
    return value;
}
