/* The mean of x, (count). */
static float mean(int count, const float *x)
{
    float sum = 0.0f;
    int i;
    for (i = 0; i < count; i++) {
        sum += x[i];
    }
    return sum / (float)count;
}
