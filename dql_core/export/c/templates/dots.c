/* y[k] = a . b[k] + scale c: a is (inner), b (count, inner), y (count). */
static void dots(int count, int inner, const float *RESTRICT a, const float *RESTRICT b,
                 float scale, const float *RESTRICT c, float *RESTRICT y)
{
    int k, i, j;
    for (k = 0; k < count; k++) {
        const float *row = b + k * inner;
        float sums[8] = {0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f};
        float sum = scale * c[0];
        for (i = 0; i + 8 <= inner; i += 8) {
            for (j = 0; j < 8; j++) {
                sums[j] += a[i + j] * row[i + j];
            }
        }
        for (; i < inner; i++) {
            sum += a[i] * row[i];
        }
        for (j = 0; j < 8; j++) {
            sum += sums[j];
        }
        y[k] = sum;
    }
}
